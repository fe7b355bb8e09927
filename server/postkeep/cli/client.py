"""One client for both cases: REST over DATA/run/admin.sock when an engine runs, else to the same API in this
process over the opened folder. No command knows which."""

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from postkeep.cli.owner import become_owner
from postkeep.domain.errors import PostkeepError
from postkeep.runtime.unixsocket import reachable

if TYPE_CHECKING:  # `postkeep serve` goes through here too, and needs no HTTP client in its memory
    import httpx

    from postkeep.protocols.http.context import ApiServices

T = TypeVar("T")
SOCKET = "run/admin.sock"
PREFIX = "/api/v1"
WAIT = 20.0
"""Seconds that a command waits for an engine that is just starting, or for another command."""
_REQUEST_SECONDS = 600.0
_PAGE = 1_000


class Refused(click.ClickException):
    """The server said no; exit status 1."""

    exit_code = 1


class Client:
    """Requests below /api/v1. Raises Refused with the server's words."""

    def __init__(self, http: "httpx.AsyncClient") -> None:
        self._http = http

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        patient: bool = False,
    ) -> Any:
        """`path` like "/users/alice", each part quoted by `part`. The decoded answer; None when empty.

        `patient`: however long it takes.
        """
        import httpx

        timeout = None if patient else httpx.USE_CLIENT_DEFAULT
        try:
            answer = await self._http.request(
                method, PREFIX + path, json=json, params=params, timeout=timeout
            )
        except httpx.HTTPError as error:
            raise Refused(f"the engine does not answer: {error or type(error).__name__}") from error
        if not answer.is_success:
            raise Refused(_reason(answer))
        return answer.json() if answer.content else None

    async def get(self, path: str, **params: Any) -> Any:
        return await self.request("GET", path, params=params)

    async def all(self, path: str, limit: int | None = None, **params: Any) -> list[Any]:
        """All pages of a list, or its first `limit` items."""
        items: list[Any] = []
        while limit is None or len(items) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(items))
            page = await self.get(path, offset=len(items), limit=size, **params)
            items += page["items"]
            if not page["items"] or len(items) >= page["total"]:
                break
        return items


def part(text: str) -> str:
    """`text` as one part of a path."""
    if not text:
        raise click.UsageError("a name is empty")
    return quote(text, safe="@")


def _reason(answer: "httpx.Response") -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code}"


@contextlib.asynccontextmanager
async def connect(data: Path) -> AsyncIterator[Client]:
    """A client for the data folder, whether an engine runs on it or not."""
    deadline = asyncio.get_running_loop().time() + WAIT
    while True:
        if await _answers(data / SOCKET):
            async with _over_socket(data / SOCKET) as http:
                yield Client(http)
            return
        # Only now: most commands find an engine, and need not load one.
        from postkeep.house import House, StoreUnusable
        from postkeep.runtime.folderlock import EngineRuns

        try:
            house = await House.open(data, deliver=False, stderr=None)
        except EngineRuns as error:  # it starts, stops, or is another command
            if asyncio.get_running_loop().time() > deadline:
                raise Refused(f"{error}, but does not answer") from error
            await asyncio.sleep(0.2)
            continue
        except StoreUnusable as error:
            from postkeep.cli.withoutstore import without_store

            with without_store(data, str(error)) as services:
                async with _over(services) as http:
                    yield Client(http)
            return
        try:
            for line in house.warnings:
                click.echo(f"Warning: {line}", err=True)
            async with _over(house.api(None, house.status)) as http:
                yield Client(http)
        finally:
            await house.close()
        return


async def _answers(path: Path) -> bool:
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
        with reachable(path) as name:
            _, writer = await asyncio.open_unix_connection(name)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except PermissionError as error:
        raise Refused(f"you may not open {path}: use the engine's own user, or root") from error
    writer.close()
    return True


@contextlib.asynccontextmanager
async def _over_socket(path: Path) -> AsyncIterator["httpx.AsyncClient"]:
    import httpx

    with reachable(path) as name:
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=name),
            base_url="http://postkeep",
            timeout=_REQUEST_SECONDS,
        ) as http:
            yield http


@contextlib.asynccontextmanager
async def _over(services: "ApiServices") -> AsyncIterator["httpx.AsyncClient"]:
    """The API in this process."""
    import httpx

    from postkeep.protocols.http.api import create_api, trusted

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=trusted(create_api(services)), raise_app_exceptions=False),
        base_url="http://postkeep",
        timeout=None,  # noqa: S113 - nothing is on the way
    ) as http:
        yield http


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command's coroutine; what goes wrong becomes one line and exit status 1."""

    async def main() -> T:
        return await work()

    try:
        return asyncio.run(main())
    except PostkeepError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise Refused(f"{name}{error.strerror or error}") from error


def call(data: Path, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a client for the data folder, as the folder's owner if root asks."""
    become_owner(data)

    async def main() -> T:
        async with connect(data) as client:
            return await work(client)

    return run(main)
