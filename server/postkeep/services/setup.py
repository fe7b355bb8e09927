"""The first set-up of a data folder (rows SET-1, SET-4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from postkeep.config.general import GeneralSettings
from postkeep.config.security import SecuritySettings
from postkeep.config.server import ServerConfig
from postkeep.config.users import UsersConfig
from postkeep.domain.account import Account, Domain, Rights
from postkeep.domain.address import parse_domain
from postkeep.domain.errors import AlreadyExists, InvalidAddress, InvalidName
from postkeep.domain.naming import account_name, has_control
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock
from postkeep.runtime.files import Files
from postkeep.services.configuration import Configuration, State
from postkeep.services.passwords import PASSWORD_LIMIT, PasswordHashes

FOLDERS = (
    "license",
    "sslcert",
    "sslca",
    "reports",
    "translations",
    "myspell",
    "UpgradeBackups",
    "run",
    "store/mail",
    "store/lists",
    "store/queue",
    "store/logs",
)
"""What a data folder holds beside its two files (SET-4); run/ is for the engine's lock and socket."""
PASSWORD_MINIMUM = 8


class Setup(NamedTuple):
    """What the first set-up asks for. `domain` becomes the primary one."""

    hostname: str
    domain: str
    administrator: str
    password: str
    remote_administration: bool = False


def is_set_up(folder: Path, files: Files) -> bool:
    return Configuration(folder, files, lambda text: None).exists


async def set_up(
    folder: Path,
    setup: Setup,
    files: Files,
    clock: Clock,
    hashes: PasswordHashes,
    *,
    certificate_names: Sequence[str] = (),
) -> Account:
    """Make the data folder; the administrator's account is returned.

    Raises AlreadyExists when the folder was set up before (nothing is changed then), InvalidName,
    InvalidAddress, OSError. Interrupted at any point it can be repeated: mailserver.cfg comes last.
    The self-signed certificate is for the host name and `certificate_names`.
    """
    configuration = Configuration(folder, files, lambda text: None)
    if configuration.exists:
        raise AlreadyExists(f"{folder} is set up already; nothing was changed")
    hostname, domain = parse_domain(setup.hostname.strip()), parse_domain(setup.domain.strip())
    if domain.startswith("["):
        raise InvalidAddress(f"“{domain}” is not a domain name")
    name = account_name(setup.administrator)
    if len(setup.password) < PASSWORD_MINIMUM or has_control(setup.password):
        raise InvalidName(f"a password has at least {PASSWORD_MINIMUM} characters, no control characters")
    if len(setup.password.encode("utf-8", "surrogatepass")) > PASSWORD_LIMIT:
        raise InvalidName(f"a password has at most {PASSWORD_LIMIT} octets")
    make_folders(folder, files)
    Certificates(folder / "sslcert", hostname, files, clock, more_names=certificate_names)
    account = Account(name, domain, await hashes.make(setup.password), rights=Rights.WRITE)
    server = ServerConfig(
        general=GeneralSettings(hostname=hostname),
        security=SecuritySettings(remote_administration=setup.remote_administration),
        domains=(Domain(domain, primary=True),),
    )
    configuration.create(State(server, UsersConfig({account.key: account})))
    return account


def make_folders(folder: Path, files: Files) -> None:
    """The layout of SET-4, readable by the engine's user alone; existing folders are left as they are."""
    for name in FOLDERS:
        files.mkdir(folder / name)
