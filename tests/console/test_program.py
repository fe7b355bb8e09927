"""The real program on a pseudo terminal: over values, and over the real agent in its dry run."""

import asyncio
import os
import random
import signal
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from postkeep_appliance.api import types as api

from tests.support.agent import FRESH, AgentSocket, FakeAgent
from tests.support.pty import Terminal

LINUX = {"TERM": "linux", "LANG": "C.UTF-8", "LC_ALL": ""}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[AgentSocket]:
    served = AgentSocket(tmp_path / "agent.sock", FakeAgent())
    await served.open()
    yield served
    await served.close()


def console(path: Path, columns: int = 80, rows: int = 25, **environment: str) -> Terminal:
    argv = [sys.executable, "-W", "default", "-m", "postkeep_console.main", "--socket", str(path)]
    return Terminal(argv, LINUX | environment, columns, rows)


async def unlock(terminal: Terminal, password: str = "correct horse") -> None:
    await terminal.until("F2 actions")
    await terminal.press("f2")
    await terminal.until("Unlock")
    await terminal.press(password, "enter")
    await terminal.until("Factory reset")


async def test_the_start_screen_stands_on_a_linux_console(served: AgentSocket) -> None:
    async with console(served.path) as terminal:
        text = await terminal.until("Alt+F2 terminal")
        for part in (
            "mail.example.com",
            "192.0.2.10",
            "https://192.0.2.10:4040/admin",
            "running",
            "A0:A1:A2",
        ):
            assert part in text
        assert "┌" in text
        assert len(text.split("\n")) == 25
    assert terminal.errors == ""


async def test_a_serial_line_of_unknown_size_gets_80x24(served: AgentSocket) -> None:
    async with console(served.path, 0, 0, TERM="vt220") as terminal:
        text = await terminal.until("F2 actions")
        assert text.split("\n")[23].startswith(" F2 actions")


async def test_an_old_terminal_gets_ascii(served: AgentSocket) -> None:
    served.agent.status = replace(served.agent.status, language="cs")
    async with console(served.path, TERM="vt100") as terminal:
        text = await terminal.until("jazyk")
        assert text.isascii()
        assert "+-" in text


async def test_the_wizard_from_start_to_finish(tmp_path: Path) -> None:
    served = AgentSocket(tmp_path / "a.sock", FakeAgent(status=FRESH, root_password="postkeep"))
    await served.open()
    async with console(served.path) as terminal:
        await terminal.until("Deutsch")
        await terminal.press("down", "enter")
        await terminal.until("7KQ2-M4XH")
        await terminal.press("f2")
        await terminal.until("Frage 1 von 6")
        await terminal.press("postkeep", "tab", "geheim fuer root", "tab", "geheim fuer", "enter")
        await terminal.until("verschieden")
        await terminal.press(" root", "enter")
        await terminal.until("Frage 2 von 6")
        await terminal.press("ctrl u", "mail", "enter")
        await terminal.until("volle Name")
        await terminal.press(".example.com", "enter")
        await terminal.until("Frage 3 von 6")
        await terminal.until("example.com")
        await terminal.press("enter")
        await terminal.until("Frage 4 von 6")
        await terminal.press("enter")
        await terminal.until("Frage 5 von 6")
        await terminal.press("geheim fuer post", "tab", "geheim fuer post", "enter")
        await terminal.until("Frage 6 von 6")
        await terminal.press("down", "tab", "tab", "enter")
        await terminal.until("Zusammenfassung")
        await terminal.press("enter", "enter", "enter")
        await terminal.until("Der Server ist eingerichtet")
        await terminal.press("enter")
        await terminal.until("läuft")
        seen = terminal.text()
    await served.close()
    assert "geheim" not in seen
    agent = served.agent
    assert agent.root_password == "geheim fuer root"
    assert agent.asked(api.SetUp) == [
        api.SetUp("mail.example.com", "example.com", "admin", "geheim fuer post", "/dev/sdc", True, False)
    ]
    assert terminal.errors == ""


async def test_the_agent_dies_and_comes_back(served: AgentSocket) -> None:
    async with console(served.path) as terminal:
        await unlock(terminal)
        await served.close()
        await terminal.until("agent does not answer", 30)
        served.agent.end_sessions()
        await served.open()
        await terminal.until(lambda text: "does not answer" not in text, 30)
        await terminal.press("enter")
        await terminal.until("The actions need the password of root")
        await terminal.press("correct horse", "enter")
        await terminal.until("Choose an adapter")
        assert terminal.process.poll() is None


async def test_no_key_ends_or_stops_it(served: AgentSocket) -> None:
    async with console(served.path) as terminal:
        await terminal.until("F2 actions")
        await terminal.send(b"\x03\x1c\x1a\x04\x13\x11\x0f\x16")
        await terminal.press("f2")
        await terminal.until("The actions need")
        assert terminal.process.poll() is None
        assert not termios.tcgetattr(terminal.slave)[3] & termios.ECHO


async def test_the_size_changes_to_nothing_and_back(served: AgentSocket) -> None:
    async with console(served.path) as terminal:
        await unlock(terminal)
        for columns, rows in ((20, 5), (1, 1), (132, 50), (80, 24)):
            terminal.resize(columns, rows)
        await terminal.until("Factory reset")
        assert terminal.process.poll() is None


async def test_a_flood_of_pasted_text_is_bounded(served: AgentSocket) -> None:
    async with console(served.path) as terminal:
        await terminal.until("F2 actions")
        await terminal.press("f2")
        await terminal.until("The actions need")
        await terminal.send(b"x" * 100_000)
        await terminal.press("enter")
        await terminal.until("not the password of root", 120)
        assert all(len(call.password) <= 128 for call in served.agent.asked(api.Unlock))


async def test_20000_random_octets_of_keys_do_not_crash_it(served: AgentSocket) -> None:
    """With the session open, so that every screen is within reach."""
    keys = [
        b"\r",
        b"\x1b",
        b"\t",
        b"\x1b[A",
        b"\x1b[B",
        b"\x1b[C",
        b"\x1b[D",
        b"\x1b[[B",
        b"\x1b[[C",
        b"\x1b[18~",
    ]
    keys += [bytes([octet]) for octet in range(256)] + [b"\x1b[5~", b"\x1b[6~", b"\x1b[1~", b"\x1b[4~"]
    chance = random.Random(3)
    async with console(served.path) as terminal:
        await unlock(terminal)
        for _ in range(200):
            weights = [40] * 10 + [1] * 256 + [10] * 4
            await terminal.send(b"".join(chance.choices(keys, weights, k=100)))
            await asyncio.sleep(0)
        # Whatever is on the screen: Esc leads home.
        for _ in range(60):
            if not await terminal.quiet():
                continue
            if "Alt+F2" in terminal.text():
                break
            await terminal.press("esc")
        assert "Alt+F2" in terminal.text()
        assert terminal.process.poll() is None
    assert terminal.errors == ""


async def test_a_terminal_that_hangs_up_ends_it(served: AgentSocket) -> None:
    async with console(served.path) as terminal:
        await terminal.until("F2 actions")
        os.kill(terminal.process.pid, signal.SIGHUP)
        assert await asyncio.to_thread(terminal.process.wait, 30) is not None


async def test_it_wants_a_terminal() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "postkeep_console.main"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"terminal" in errors


# --- over the real agent, in its dry run ------------------------------------------------------------


@pytest.fixture
async def dry_run(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "agent.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "postkeep_appliance.agent", "--dry-run", "--socket", str(path)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    yield path
    process.terminate()
    await process.wait()


async def test_with_the_agents_dry_run_the_first_start_sets_up_and_the_menu_works(dry_run: Path) -> None:
    async with console(dry_run) as terminal:
        await terminal.until("Deutsch")
        await terminal.press("enter")
        await terminal.until("F2 set up")
        await terminal.press("f2")
        await terminal.until("question 1 of 6")
        await terminal.press("postkeep", "tab", "root's new word", "tab", "root's new word", "enter")
        await terminal.until("question 2 of 6")
        await terminal.press("ctrl u", "mail.example.com", "enter")
        await terminal.until("question 3 of 6")
        await terminal.press("enter")
        await terminal.until("question 4 of 6")
        await terminal.press("enter")
        await terminal.until("question 5 of 6")
        await terminal.press("mail's new word", "tab", "mail's new word", "enter")
        await terminal.until("question 6 of 6")
        await terminal.press("tab", "tab", "enter")
        await terminal.until("summary")
        await terminal.press("enter", "enter", "enter")
        await terminal.until("The server is set up")
        await terminal.press("enter")
        await unlock(terminal, "root's new word")
        for index, seen in enumerate(MENU_SHOWS):
            await terminal.press("home", *["down"] * index, "enter")
            await terminal.until(seen)
            await terminal.press("esc")
            await terminal.until("Factory reset")
        assert terminal.process.poll() is None
    assert terminal.errors == ""


MENU_SHOWS = (
    "Choose an adapter",
    "The name in the DNS",
    "Clock synchronized",
    "SSH is off",
    "closed.",
    "Current password",
    "State now",
    "Grow makes",
    "Log mail",
    "Machine or domain",
    "Makes one file",
    "Type a part",
    "Choose the language",
)


async def test_with_the_agents_dry_run_a_wrong_password_is_refused(dry_run: Path) -> None:
    async with console(dry_run) as terminal:
        await terminal.until("Deutsch")
        await terminal.press("enter")
        await terminal.until("F2 set up")
        await terminal.press("f2")
        await terminal.until("question 1 of 6")
        await terminal.press("guess", "tab", "root's new word", "tab", "root's new word", "enter")
        await terminal.until(lambda text: "Current password           !" in text)
        assert terminal.process.poll() is None
