"""Where mail is kept, and how its disk space is given back."""

from dataclasses import dataclass

from postkeep.config import checks
from postkeep.config.declare import setting


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Section "storage" of mailserver.cfg."""

    folder: str = setting(
        "store",
        "MailStoreDirectory",
        "Folder of the mail store: packs, spool and database. A relative path is below the data folder.",
        keywords="disk path location messages database",
        check=checks.not_empty,
    )
    compaction_interval: int = setting(
        600,
        "CompactionInterval",
        "Time between two looks for packs whose space can be given back",
        unit="seconds",
        minimum=10,
        maximum=604_800,
        keywords="disk space compaction background deleted",
    )
    compaction_dead: int = setting(
        60,
        "CompactionDeadShare",
        "A pack is rewritten when this share of it belongs to deleted messages",
        unit="percent",
        minimum=10,
        maximum=95,
        keywords="disk space compaction rewrite deleted",
    )
    compaction_rate: int = setting(
        8192,
        "CompactionRate",
        "How fast packs are rewritten, so that mail in and out is not slowed down",
        unit="KiB/s",
        minimum=64,
        maximum=1_048_576,
        keywords="disk space compaction speed load",
    )
    compaction_grace: int = setting(
        900,
        "CompactionGrace",
        "How long a pack without live messages stays for sessions that still read in it",
        unit="seconds",
        minimum=60,
        maximum=604_800,
        keywords="disk space compaction delay readers",
    )
