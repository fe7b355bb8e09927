"""Where mail is kept."""

from dataclasses import dataclass

from postkeep.config.declare import setting


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Section "storage" of mailserver.cfg."""

    folder: str = setting(
        "store",
        "MailStoreDirectory",
        "Folder of the mail store: packs, spool and database. A relative path is below the data folder.",
        keywords="disk path location messages database",
    )
