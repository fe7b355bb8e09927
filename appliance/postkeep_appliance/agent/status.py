"""The start screen (row CON-1): cheap, and the same for all who ask within a moment."""

import asyncio
import contextlib
import ipaddress
import logging
import re
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from postkeep_appliance.agent import health
from postkeep_appliance.agent.engine import state_of
from postkeep_appliance.agent.setup import is_unfinished
from postkeep_appliance.agent.work import Refused, Work
from postkeep_appliance.api.types import Done, SetLanguage, Status, StatusAnswer
from postkeep_appliance.host.clock import Clock
from postkeep_appliance.host.port import Host, HostError, TimeFacts, UnitFacts
from postkeep_appliance.host.state import FIRST_PASSWORD_MARK

LANGUAGE_STATE = "language"
NOTICES_STATE = "notices"
"""A JSON list of texts, written by first boot."""
DOMAIN_STATE = "suggested-domain"
"""A domain, written by first boot."""
FRESH_SECONDS = 2.0
SLOW_SECONDS = 30.0
"""How long what needs several programs is believed."""
_LANGUAGE = re.compile(r"[a-z]{2}")
_log = logging.getLogger("postkeep.agent")
T = TypeVar("T")


class _Slow(msgspec.Struct, frozen=True):
    """What is looked at rarely."""

    fingerprint: str
    failed_units: tuple[str, ...]
    time: TimeFacts
    ssh: bool


class StatusBoard:
    """Looks at the machine at most every FRESH_SECONDS, whoever asks however often."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._lock = asyncio.Lock()
        self._answer: StatusAnswer | None = None
        self._answered = 0.0
        self._slow: _Slow | None = None
        self._slow_at = 0.0
        self._slow_for: UnitFacts | None = None

    def changed(self) -> None:
        """Something was changed: the next answer is looked up anew."""
        self._answer = self._slow = None

    async def status(self, call: Status, work: Work) -> StatusAnswer:
        async with self._lock:
            if self._answer is None or self._clock.monotonic() - self._answered >= FRESH_SECONDS:
                self._answer = await self._look()
                self._answered = self._clock.monotonic()
            return self._answer

    async def _look(self) -> StatusAnswer:
        host = self._host
        unit = await _or(host.engine.unit(), UnitFacts("", "", ""))
        # One that failed half-way has a domain already, but the wizard has to ask again.
        set_up = host.engine.is_set_up() and not is_unfinished(host.state)
        slow = await self._look_slowly(unit)
        adapters = host.network.adapters()
        addresses = _order([one.partition("/")[0] for facts in adapters for one in facts.addresses])
        hostname = host.system.hostname()
        engine = state_of(unit, set_up)
        first = host.state.read(FIRST_PASSWORD_MARK) is not None
        lines = health.lines(
            engine=engine,
            spaces=host.disks.spaces(),
            memory=host.system.memory(),
            synchronized=slow.time.synchronized,
            failed_units=slow.failed_units,
            first_password=first,
            links=tuple((facts.name, facts.link, bool(facts.addresses)) for facts in adapters),
        )
        return StatusAnswer(
            *host.product,
            hostname=hostname,
            addresses=addresses,
            administration_urls=tuple(f"https://{_bracketed(one)}:4040/admin" for one in addresses),
            client_urls=tuple(f"https://{one}/" for one in [hostname, *map(_bracketed, addresses)]),
            engine=engine,
            set_up=set_up,
            setup_code="" if set_up else host.engine.setup_code(),
            first_password=first,
            fingerprint=slow.fingerprint,
            time=host.system.now(),
            time_zone=slow.time.zone,
            ssh=slow.ssh,
            language=(host.state.read(LANGUAGE_STATE) or b"").decode("ascii", "replace"),
            health=lines,
            notices=self._notices(),
            suggested_domain=(host.state.read(DOMAIN_STATE) or b"").decode("ascii", "replace"),
        )

    async def _look_slowly(self, unit: UnitFacts) -> _Slow:
        now = self._clock.monotonic()
        if self._slow is None or unit != self._slow_for or now - self._slow_at >= SLOW_SECONDS:
            host = self._host
            self._slow = _Slow(
                await _or(host.engine.fingerprint(), ""),
                await _or(host.system.failed_units(), ()),
                await _or(host.system.time(), TimeFacts("UTC", (), False)),
                await _or(host.system.ssh(), False),
            )
            self._slow_at, self._slow_for = now, unit
        return self._slow

    def _notices(self) -> tuple[str, ...]:
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.json.decode(self._host.state.read(NOTICES_STATE) or b"[]", type=tuple[str, ...])
        return ()

    async def set_language(self, call: SetLanguage, work: Work) -> Done:
        if not _LANGUAGE.fullmatch(call.language):
            raise Refused("invalid", "A language has a code of two letters.", "language")
        wanted = call.language.encode()
        if self._host.state.read(LANGUAGE_STATE) != wanted:  # everybody may ask: no write for nothing
            self._host.state.write(LANGUAGE_STATE, wanted)
            self._answer = None
        return Done()


async def _or(facts: Awaitable[T], default: T) -> T:
    """One thing that cannot be told leaves the rest of the screen as it is."""
    try:
        return await facts
    except HostError as error:
        _log.warning("status: %s", error)
        return default


def _order(addresses: list[str]) -> tuple[str, ...]:
    """IPv4 first; none that works on one link only."""
    found = [ipaddress.ip_address(one) for one in addresses]
    usable = [one for one in found if not one.is_link_local and not one.is_loopback]
    return tuple(str(one) for one in sorted(usable, key=lambda one: one.version))


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
