"""An agent that is plain values: the appliance as the console's tests and screenshots see it.

    agent = FakeAgent()
    agent.refuse(SetHostname, AgentError("invalid", "…", "hostname"))
    await agent.call(Status(), StatusAnswer)

`AgentSocket` serves one on a Unix socket with the real codec, for tests that run the real program.
"""

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace
from postkeep_appliance.api import types as api
from postkeep_appliance.api.client import AgentError
from postkeep_appliance.api.codec import decode_request, encode

R = TypeVar("R")

FINGERPRINT = ":".join(f"{octet:02X}" for octet in range(0xA0, 0xC0))

STATUS = api.StatusAnswer(
    product="Postkeep",
    version="0.1.0",
    hostname="mail.example.com",
    addresses=("192.0.2.10/24", "2001:db8::10/64"),
    administration_urls=("https://mail.example.com:4040/admin", "https://192.0.2.10:4040/admin"),
    client_urls=("https://mail.example.com/", "https://192.0.2.10/"),
    engine=api.EngineState.RUNNING,
    set_up=True,
    setup_code="",
    first_password=False,
    fingerprint=FINGERPRINT,
    time="2026-11-24T20:39:11+01:00",
    time_zone="Europe/Berlin",
    ssh=False,
    language="en",
    health=(
        api.Health("Disk", "ok", "61.2 GiB of 64.0 GiB are free."),
        api.Health("Memory", "ok", "1.1 GiB of 4.0 GiB are free."),
        api.Health("DNS", "warning", "mail.example.com has no PTR record.", "Ask the owner of the address."),
    ),
)
FRESH = replace(
    STATUS,
    hostname="postkeep",
    engine=api.EngineState.NOT_SET_UP,
    set_up=False,
    setup_code="7KQ2-M4XH",
    first_password=True,
    language="",
    client_urls=(),
    notices=("OVF property netmask: 255.0.255.0 is no mask; DHCP is used.",),
)

ADAPTERS = (
    api.Adapter(
        "ens192",
        "00:50:56:a1:b2:c3",
        True,
        ("192.0.2.10/24", "2001:db8::10/64"),
        "192.0.2.1",
        api.AdapterSettings(
            ipv4=api.Addressing(api.Method.STATIC, "192.0.2.10/24", "192.0.2.1"), dns=("192.0.2.53",)
        ),
    ),
    api.Adapter("ens224", "00:50:56:a1:b2:c4", False, (), "", api.AdapterSettings()),
)
DISKS = api.Disks(
    (
        api.Disk("/dev/sda", 16 << 30, "system", "Virtual disk"),
        api.Disk("/dev/sdb", 64 << 30, "store", "Virtual disk"),
        api.Disk("/dev/sdc", 500 << 30, "empty", "Virtual disk"),
    ),
    (
        api.Space("/", 15 << 30, 12 << 30),
        api.Space("/var/lib/postkeep/store", 64 << 30, 61 << 30),
    ),
)
LOGS = ("config", "debug", "error", "mail", "operations", "security", "spam", "warning", "system", "agent")
ZONES = ("America/Sao_Paulo", "Asia/Tokyo", "Europe/Berlin", "Europe/Prague", "Europe/Vienna", "UTC")
KEYBOARDS = (("cz", "Czech"), ("us", "English (US)"), ("fr", "French"), ("de", "German"), ("es", "Spanish"))


@dataclass
class FakeAgent:
    """In process it is an `Agent` port itself; `answer` is what both ways share."""

    status: api.StatusAnswer = STATUS
    root_password: str = "correct horse"
    idle_seconds: int = 600
    countdown: int = 60
    network_lost: bool = False
    session: str = ""
    adapters: tuple[api.Adapter, ...] = ADAPTERS
    calls: list[Any] = field(default_factory=list)
    log_lines: list[str] = field(
        default_factory=lambda: [f"[24/Nov/2026 20:3{n}:00] message {n}" for n in range(9)]
    )
    gate: asyncio.Event | None = None
    """While set and not fired, calls other than Status wait for it."""
    lost: bool = False
    """Nobody answers."""

    def __post_init__(self) -> None:
        self._sessions: dict[str, bool] = {}
        self._refusals: dict[type, deque[AgentError]] = defaultdict(deque)
        self._count = 0

    def refuse(self, kind: type, *errors: AgentError) -> None:
        """The next calls of this kind fail so, one after the other."""
        self._refusals[kind].extend(errors)

    def end_sessions(self) -> None:
        self._sessions.clear()

    def asked(self, kind: type[R]) -> list[R]:
        """All calls of a kind that came."""
        return [call for call in self.calls if isinstance(call, kind)]

    async def call(
        self, call: api.Call, answer: type[R], progress: Callable[[api.Progress], None] | None = None
    ) -> R:
        if self.lost:
            raise AgentError("lost", "Nobody answers.")
        if self.gate is not None and not isinstance(call, api.Status):
            await self.gate.wait()
        result = self.answer(call, self.session, progress or (lambda step: None))
        if isinstance(result, api.Unlocked):
            self.session = result.session
        assert isinstance(result, answer)
        return result

    def answer(self, call: Any, session: str, progress: Callable[[api.Progress], None]) -> Any:
        """The result of a call, or AgentError."""
        self.calls.append(call)
        if not isinstance(call, api.OPEN_CALLS):
            if session not in self._sessions:
                raise AgentError("locked", "No session.")
            if self._sessions[session] and not isinstance(call, api.ChangePassword | api.Lock):
                raise AgentError("denied", "The first password has to be changed.")
        if self._refusals[type(call)]:
            raise self._refusals[type(call)].popleft()
        return getattr(self, f"_{type(call).__name__}")(call, session, progress)

    # --- one method a call: (call, session, progress) -> result ------------------------------------

    def _Status(self, call: Any, session: str, progress: Any) -> Any:
        return self.status

    def _Unlock(self, call: Any, session: str, progress: Any) -> Any:
        if call.password != self.root_password:
            raise AgentError("denied", "That is not the password of root.", "password")
        self._count += 1
        name = f"session-{self._count}"
        self._sessions[name] = self.status.first_password
        return api.Unlocked(name, self.status.first_password, self.idle_seconds)

    def _SetLanguage(self, call: Any, session: str, progress: Any) -> Any:
        self.status = replace(self.status, language=call.language)
        return api.Done()

    def _Lock(self, call: Any, session: str, progress: Any) -> Any:
        del self._sessions[session]
        return api.Done()

    def _ChangePassword(self, call: Any, session: str, progress: Any) -> Any:
        if call.old_password != self.root_password:
            raise AgentError("denied", "That is not the password of root.", "old_password")
        self.root_password = call.new_password
        self.status = replace(self.status, first_password=False)
        self._sessions[session] = False
        return api.Done()

    def _SetUp(self, call: Any, session: str, progress: Any) -> Any:
        for number, text in enumerate(("Host name", "Data store", "Domain and administrator", "Mail server")):
            progress(api.Progress(0, text, number, 4))
        self.status = replace(
            self.status, set_up=True, setup_code="", hostname=call.hostname, engine=api.EngineState.RUNNING
        )
        return api.Done()

    def _ListAdapters(self, call: Any, session: str, progress: Any) -> Any:
        return api.Adapters(self.adapters)

    def _SetNetwork(self, call: Any, session: str, progress: Any) -> Any:
        return api.Pending(self.countdown, self.network_lost, "ens192 has 192.0.2.20/24.")

    def _SetHostname(self, call: Any, session: str, progress: Any) -> Any:
        self.status = replace(self.status, hostname=call.hostname)
        return api.Changed("engine")

    def _GetTime(self, call: Any, session: str, progress: Any) -> Any:
        return api.TimeSettings(self.status.time_zone, ("time.example.com",), True, ZONES)

    def _SetTime(self, call: Any, session: str, progress: Any) -> Any:
        self.status = replace(self.status, time_zone=call.time_zone)
        return api.Changed("appliance", "Running programs keep the old zone.")

    def _SetSsh(self, call: Any, session: str, progress: Any) -> Any:
        self.status = replace(self.status, ssh=call.on)
        return api.Done()

    def _SetRemoteAdministration(self, call: Any, session: str, progress: Any) -> Any:
        return api.Changed()

    def _Engine(self, call: Any, session: str, progress: Any) -> Any:
        state = api.EngineState.STOPPED if call.action in ("stop", "disable") else api.EngineState.RUNNING
        self.status = replace(self.status, engine=state)
        return api.Done()

    def _ListDisks(self, call: Any, session: str, progress: Any) -> Any:
        return DISKS

    def _GrowDisks(self, call: Any, session: str, progress: Any) -> Any:
        return api.Changed("", "/dev/sdb: 64.0 GiB -> 100.0 GiB")

    def _ReadLog(self, call: Any, session: str, progress: Any) -> Any:
        lines = [line for line in self.log_lines if call.search in line][-call.lines :]
        return api.LogLines(LOGS, tuple(lines))

    def _TestNetwork(self, call: Any, session: str, progress: Any) -> Any:
        progress(api.Progress(0, f"64 bytes from {call.target}: time=1.2 ms"))
        return api.Done("1 of 1 answered.")

    def _SupportBundle(self, call: Any, session: str, progress: Any) -> Any:
        return api.Bundle("/var/lib/postkeep-appliance/support/postkeep-support-20261124.tar.gz", 3 << 20)

    def _ListKeyboards(self, call: Any, session: str, progress: Any) -> Any:
        return api.Keyboards("us", KEYBOARDS)

    def _done(self, call: Any, session: str, progress: Any) -> Any:
        return api.Done()

    _ConfirmNetwork = _UndoNetwork = _Power = _SetKeyboard = _FactoryReset = _done


class AgentSocket:
    """A FakeAgent behind the real lines. `close` and `open` again: the agent dies and comes back."""

    def __init__(self, path: Path, agent: FakeAgent) -> None:
        self.path, self.agent = path, agent
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                request = decode_request(line)
                number = request.id

                def send(step: api.Progress, number: int = number) -> None:
                    writer.write(encode(replace(step, id=number)))

                try:
                    result = self.agent.answer(request.call, request.session, send)
                    writer.write(encode(api.Answer(number, result)))
                except AgentError as error:
                    code = "failed" if error.code == "lost" else error.code
                    writer.write(encode(api.Failure(number, code, error.text, error.field)))
                await writer.drain()
        self._writers.discard(writer)
        writer.close()
