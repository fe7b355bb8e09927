"""Logs that keep their lines in memory."""


class FakeLog:
    """One of the eight logs; `lines` is what was written."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines.append(text)

    def __contains__(self, text: str) -> bool:
        """Is it in one of the lines?"""
        return any(text in line for line in self.lines)


class FakeLogs:
    """What was written, by log. `debugging`: all topics of the Debug log are on."""

    def __init__(self, *, debugging: bool = False) -> None:
        self._debugging = debugging
        self.mail, self.security, self.error, self.warning = FakeLog(), FakeLog(), FakeLog(), FakeLog()
        self.operations, self.debug = FakeLog(), FakeLog()

    def debug_on(self, topic: str) -> bool:
        return self._debugging
