"""The agent over its socket, with its own client."""

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from postkeep_appliance.agent.app import Agent
from postkeep_appliance.agent.server import AgentServer, Limits
from postkeep_appliance.api.client import AgentClient, AgentError
from postkeep_appliance.api.types import (
    Disks,
    Done,
    Engine,
    ListDisks,
    Lock,
    Progress,
    Status,
    StatusAnswer,
    TestNetwork,
    Unlock,
    Unlocked,
)
from postkeep_appliance.host.clock import SystemClock
from postkeep_appliance.host.dryrun import DryRunHost

GOOD = "correct horse"


class Served:
    """An agent on a socket, as this user."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.path = folder / "agent.sock"
        self.host = DryRunHost(SystemClock(), set_up=True)
        self.agent = Agent(self.host, SystemClock())
        self.server = AgentServer(self.agent.dispatcher, SystemClock(), {os.getuid()}, set(), limits)

    async def __aenter__(self) -> "Served":
        await self.server.start(self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with Served(tmp_path) as served:
        yield served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AgentClient]:
    client = AgentClient(str(served.path))
    yield client
    await client.close()


async def test_a_session_from_unlock_to_lock(client: AgentClient) -> None:
    assert (await client.call(Status(), StatusAnswer)).hostname == "mail.example.com"
    with pytest.raises(AgentError) as caught:
        await client.call(ListDisks(), Disks)
    assert caught.value.code == "locked"
    await client.call(Unlock(GOOD), Unlocked)
    assert len((await client.call(ListDisks(), Disks)).disks) == 3
    await client.call(Lock(), Done)
    assert client.session == ""


async def test_progress_comes_before_the_end(client: AgentClient) -> None:
    await client.call(Unlock(GOOD), Unlocked)
    said: list[Progress] = []
    await client.call(TestNetwork("dns", "example.com"), Done, progress=said.append)
    assert [one.text.split()[1] for one in said] == ["A", "AAAA", "MX"]


async def test_calls_run_beside_one_another(client: AgentClient) -> None:
    """A slow one holds no quick one up, and each gets its own answer."""
    await client.call(Unlock(GOOD), Unlocked)
    slow = asyncio.ensure_future(client.call(TestNetwork("ping", "192.0.2.1"), Done))
    statuses = await asyncio.gather(*(client.call(Status(), StatusAnswer) for _ in range(5)))
    assert len(statuses) == 5
    assert not slow.done()
    slow.cancel()


async def test_an_agent_that_restarts_is_found_again(tmp_path: Path) -> None:
    client = AgentClient(str(tmp_path / "agent.sock"))
    async with Served(tmp_path):
        await client.call(Status(), StatusAnswer)
    with pytest.raises(AgentError) as caught:
        await client.call(Status(), StatusAnswer)
    assert caught.value.code == "lost"
    async with Served(tmp_path):
        assert (await client.call(Status(), StatusAnswer)).product == "Postkeep"
        await client.close()


async def test_a_connection_that_is_lost_fails_what_is_under_way(tmp_path: Path) -> None:
    client = AgentClient(str(tmp_path / "agent.sock"))
    async with Served(tmp_path):
        await client.call(Unlock(GOOD), Unlocked)
        call = asyncio.ensure_future(client.call(TestNetwork("ping", "192.0.2.1"), Done))
        await client.call(Status(), StatusAnswer)
    with pytest.raises(AgentError) as caught:
        await call
    assert caught.value.code == "lost"


async def test_a_session_survives_a_new_connection(served: Served, client: AgentClient) -> None:
    await client.call(Unlock(GOOD), Unlocked)
    await client.close()
    assert await client.call(ListDisks(), Disks)


async def test_an_engine_that_is_restarted_goes_on_when_the_console_dies(
    served: Served, client: AgentClient
) -> None:
    await client.call(Unlock(GOOD), Unlocked)
    call = asyncio.ensure_future(client.call(Engine("disable"), Done))
    await client.call(Status(), StatusAnswer)
    await client.close()
    with pytest.raises(AgentError):
        await call
    await served.agent.turn.finish()
    assert served.host.machine.enabled == "disabled"


async def test_the_socket_is_its_groups_alone(served: Served) -> None:
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o660


async def test_no_agent_at_all(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        await AgentClient(str(tmp_path / "nothing.sock")).call(Status(), StatusAnswer)
    assert caught.value.code == "lost"


async def test_the_program_says_ready_and_ends_on_sigterm(tmp_path: Path) -> None:
    import socket

    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.setblocking(False)
    path, log = tmp_path / "agent.sock", tmp_path / "log" / "agent.log"
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "postkeep_appliance.agent",
            "--dry-run",
            "--socket",
            str(path),
            "--log",
            str(log),
        ),
        env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            assert (await asyncio.get_running_loop().sock_recv(notices, 1000)).startswith(b"READY=1")
        client = AgentClient(str(path))
        assert (await client.call(Status(), StatusAnswer)).first_password
        with pytest.raises(AgentError):
            await client.call(Unlock("hunter2"), Unlocked)
        await client.close()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            _, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        notices.close()
    assert process.returncode == 0
    assert not path.exists()
    text = log.read_text()
    assert "wrong password from" in text
    assert "wrong password from" in err.decode()
    assert "hunter2" not in text + err.decode()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
