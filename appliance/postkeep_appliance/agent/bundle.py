"""The support bundle: what a helper needs, without mail, password or key (row CON-9)."""

import asyncio
import gzip
import io
import logging
import tarfile
import time

from postkeep_appliance.agent.redact import redact
from postkeep_appliance.agent.work import Work
from postkeep_appliance.api.types import Bundle, SupportBundle
from postkeep_appliance.host.clock import Clock
from postkeep_appliance.host.port import Collected, LogsPort

MAX_FILE = 2 << 20
MAX_TOTAL = 32 << 20
"""Octets before compression."""

_log = logging.getLogger("postkeep.agent")


class Bundles:
    def __init__(self, logs: LogsPort, clock: Clock) -> None:
        self._logs = logs
        self._clock = clock

    async def make(self, call: SupportBundle, work: Work) -> Bundle:
        found = await self._logs.collect(work.say)
        work.say("Secrets are taken out, then all is packed")
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._clock.now()))
        name = f"postkeep-support-{stamp}"
        data = await asyncio.to_thread(pack, name, found, self._clock.now())
        path = self._logs.keep_bundle(f"{name}.tar.gz", data)
        _log.info("support bundle %s by %s", path, work.caller)
        return Bundle(path, len(data))


def pack(folder: str, files: list[Collected], now: float) -> bytes:
    """A .tar.gz of redacted files below `folder`. What does not fit is named in MISSING.txt."""
    packed = io.BytesIO()
    missing = []
    room = MAX_TOTAL
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=int(now)) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for file in files:
            data = redact(file.data)[-MAX_FILE:]
            if len(data) > room:
                missing.append(file.name)
                continue
            room -= len(data)
            _add(tar, f"{folder}/{file.name}", data, now)
        if missing:
            _add(tar, f"{folder}/MISSING.txt", "\n".join(missing).encode(), now)
    return packed.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, now: float) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(data), int(now), 0o600
    tar.addfile(entry, io.BytesIO(data))
