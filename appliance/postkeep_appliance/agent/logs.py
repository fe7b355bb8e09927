"""The tail of a log (row CON-9)."""

from postkeep_appliance.agent.work import Work
from postkeep_appliance.api.types import LogLines, ReadLog
from postkeep_appliance.host.port import Invalid, LogsPort

MAX_LINES = 2000
MAX_OCTETS = 512 << 10
"""Of all lines together: they go into one line of the protocol."""


class LogReader:
    def __init__(self, logs: LogsPort) -> None:
        self._logs = logs

    async def read(self, call: ReadLog, work: Work) -> LogLines:
        names = self._logs.names()
        if call.name not in names:
            raise Invalid("name", f"There is no such log; there are {', '.join(names)}.")
        if not 1 <= call.lines <= MAX_LINES:
            raise Invalid("lines", f"Ask for 1 to {MAX_LINES} lines.")
        if len(call.search) > 200:
            raise Invalid("search", "Search for at most 200 characters.")
        kept: list[str] = []
        room = MAX_OCTETS
        for line in reversed(await self._logs.read(call.name, call.lines, call.search)):
            shown = "".join(one if one.isprintable() or one == "\t" else "�" for one in line)
            room -= len(shown.encode()) + 3
            if room < 0:
                break
            kept.append(shown)
        return LogLines(names, tuple(reversed(kept)))
