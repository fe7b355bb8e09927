"""Settings of the eight logs (row LOG-1)."""

from dataclasses import dataclass

from postkeep.config import checks
from postkeep.config.declare import setting

TOPICS = ("smtp", "smtp-client", "imap", "pop3", "http", "directory", "queue", "storage")
"""What the Debug log can be asked for."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Section Logs of mailserver.cfg."""

    size_kb: int = setting(
        10_240,
        "LogFileSize",
        "A log is rotated when its file reaches this size; 0 never rotates",
        unit="KB",
        minimum=0,
        maximum=4_194_304,
        keywords="rotation logs size",
    )
    count: int = setting(
        10,
        "LogFileCount",
        "How many rotated files of each log are kept beside the current one",
        minimum=0,
        maximum=1_000,
        keywords="rotation logs number history",
    )
    debug_topics: tuple[str, ...] = setting(
        (),
        "DebugTopics",
        f"What the Debug log records: {', '.join(TOPICS)}",
        keywords="debug messages trace",
        check=checks.one_of(TOPICS),
    )
