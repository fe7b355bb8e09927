"""Disks and their growth (row APP-5)."""

import logging

from postkeep_appliance.agent.work import Work
from postkeep_appliance.api.types import Changed, Disks, GrowDisks, ListDisks
from postkeep_appliance.host.port import DisksPort

_log = logging.getLogger("postkeep.agent")


class DiskControl:
    def __init__(self, disks: DisksPort) -> None:
        self._disks = disks

    async def list(self, call: ListDisks, work: Work) -> Disks:
        return Disks(await self._disks.disks(), self._disks.spaces())

    async def grow(self, call: GrowDisks, work: Work) -> Changed:
        grew = await self._disks.grow(work.say)
        _log.info("disks %s, by %s", "grew" if grew else "are as large as they can be", work.caller)
        if grew:
            return Changed("", "The file systems have grown to their disks.")
        return Changed("", "Nothing to grow: the file systems fill their disks already.")
