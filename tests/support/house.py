"""A House with its REST API in this process: requests as any administrator, no sockets."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher
from postkeep.config.server import ServerConfig
from postkeep.config.users import UsersConfig
from postkeep.domain.account import Account, Alias, Domain, Rights
from postkeep.house import House
from postkeep.protocols.http.api import create_api, guarded, trusted
from postkeep.runtime.files import SystemFiles
from postkeep.services.configuration import Configuration, State
from postkeep.services.control import ServiceState
from postkeep.services.setup import make_folders

DOMAIN, OTHER = "example.test", "other.test"
PASSWORD = "correct horse"
_HASH = PasswordHasher(1, 64, 1).hash(PASSWORD)
LEVELS = ("root", "write", "read", "domain", "none", "nobody")


def accounts() -> list[Account]:
    """One administrator of each level, and plain users in two domains."""
    return [
        Account("write", DOMAIN, _HASH, rights=Rights.WRITE),
        Account("read", DOMAIN, _HASH, rights=Rights.READ),
        Account("domain", DOMAIN, _HASH, rights=Rights.DOMAIN),
        Account("none", DOMAIN, _HASH),
        Account("alice", DOMAIN, _HASH, full_name="Alice Archer", aliases=("ally",)),
        Account("zoe", OTHER, _HASH),
    ]


def make_data(folder: Path) -> Path:
    """A data folder that is set up, without the cost of real hashes."""
    files = SystemFiles()
    make_folders(folder, files)
    users = UsersConfig(
        {account.key: account for account in accounts()},
        {("sales", DOMAIN): Alias("sales", DOMAIN, ("alice", "far@elsewhere.example"))},
    )
    domains = (Domain(DOMAIN, primary=True, aliases=("example.example",)), Domain(OTHER))
    Configuration(folder, files, lambda text: None).create(State(ServerConfig(domains=domains), users))
    return folder


class FakeControl:
    """Two services that start and stop in memory."""

    def __init__(self) -> None:
        self.running = {"smtp": True, "imap": False}

    def state(self, name: str) -> ServiceState:
        on = self.running[name]
        return ServiceState(name, name.upper(), False, on, (("127.0.0.1", 25),) if on else (), ("*:25",), "")

    def states(self) -> list[ServiceState]:
        return [self.state(name) for name in self.running]

    async def start(self, name: str) -> ServiceState:
        self.running[name] = True
        return self.state(name)

    async def stop(self, name: str) -> ServiceState:
        self.running[name] = False
        return self.state(name)


class Api:
    """`as_(level)` gives a client for one of LEVELS; peers are loopback unless told otherwise."""

    def __init__(self, house: House, control: Any = None) -> None:
        self.house = house
        self.app = create_api(house.api(control, house.status))
        self._stack = contextlib.AsyncExitStack()

    async def as_(self, level: str, peer: str = "127.0.0.1") -> httpx.AsyncClient:
        door = trusted(self.app) if level == "root" else guarded(self.app)
        transport = httpx.ASGITransport(app=door, raise_app_exceptions=False, client=(peer, 50_000))
        login = None if level in ("root", "nobody") else httpx.BasicAuth(level, PASSWORD)
        client = httpx.AsyncClient(transport=transport, base_url="https://admin.test/api/v1", auth=login)
        return await self._stack.enter_async_context(client)

    async def close(self) -> None:
        await self._stack.aclose()


@contextlib.asynccontextmanager
async def open_api(folder: Path, control: Any = None) -> AsyncIterator[Api]:
    house = await House.open(make_data(folder), stderr=None)
    api = Api(house, control)
    try:
        yield api
    finally:
        await api.close()
        await house.close()
