"""The first start (row CON-2). Every step can be done again, so a set-up that failed is simply repeated."""

import contextlib
import logging

import msgspec

from postkeep_appliance.agent.engine import EngineControl
from postkeep_appliance.agent.work import Refused, Work
from postkeep_appliance.api.types import Done, Engine, SetUp
from postkeep_appliance.host import names
from postkeep_appliance.host.port import DisksPort, EnginePort, Host, Invalid, StatePort, SystemPort

STATE = "setup"
_STEPS = 6

_log = logging.getLogger("postkeep.agent")


class _Progress(msgspec.Struct, frozen=True):
    """Durable: whether a set-up by this agent came to its end."""

    complete: bool


def is_unfinished(state: StatePort) -> bool:
    """Whether a set-up by this agent began and did not come to its end."""
    octets = state.read(STATE)
    if octets is None:
        return False
    with contextlib.suppress(msgspec.MsgspecError):
        return not msgspec.json.decode(octets, type=_Progress).complete
    return True


class FirstStart:
    """Host name, store, domain and administrator, remote administration, start."""

    def __init__(self, host: Host, control: EngineControl) -> None:
        self._system: SystemPort = host.system
        self._engine: EnginePort = host.engine
        self._disks: DisksPort = host.disks
        self._state: StatePort = host.state
        self._control = control

    def unfinished(self) -> bool:
        """Whether a set-up by this agent began and did not come to its end."""
        return is_unfinished(self._state)

    async def set_up(self, call: SetUp, work: Work) -> Done:
        """Raises Invalid with the field; HostError with what to do. All is checked first."""
        hostname = names.hostname(call.hostname)
        domain = names.domain(call.domain, "domain")
        administrator = names.administrator(call.administrator)
        password = names.password(
            call.administrator_password, "administrator_password", minimum=names.PASSWORD_MINIMUM
        )
        if call.statistics:
            raise Invalid("statistics", "This version sends no statistics to anybody; leave it off.")
        if self._engine.is_set_up() and not self.unfinished():
            raise Refused("failed", "Postkeep is set up already; change its settings in the administration.")
        await self._check_store(call.store)
        _log.info("set-up of %s by %s", hostname, work.caller)
        self._state.write(STATE, msgspec.json.encode(_Progress(False)))

        await self._do(call, hostname, domain, administrator, password, work)
        self._state.write(STATE, msgspec.json.encode(_Progress(True)))
        work.say("Postkeep is set up", _STEPS, _STEPS)
        return Done(f"Postkeep is set up; the administrator is {administrator}@{domain}.")

    async def _do(
        self, call: SetUp, hostname: str, domain: str, administrator: str, password: str, work: Work
    ) -> None:
        """Each step can be done again."""
        step = _step(work, 0, "The engine stops")
        await self._control.reach(Engine("stop"), step)
        _step(work, 1, f"The host name is {hostname}")
        await self._system.set_hostname(hostname)
        step = _step(work, 2, "The store gets its place")
        if call.store.startswith("/dev/"):
            await self._disks.use_as_store(call.store, step.say)
        _step(work, 3, "Domain and administrator are made")
        if self._engine.is_set_up():  # of a try that came this far: what is entered now counts
            self._engine.undo_init()
        await self._engine.init(hostname, domain, administrator, password)
        if call.store and not call.store.startswith("/dev/"):
            await self._engine.use_folder(call.store)
            await self._engine.set_setting("MailStoreDirectory", call.store)
        _step(work, 4, "Administration from other hosts is set")
        await self._engine.set_setting("RemoteAdministration", "1" if call.remote_administration else "0")
        step = _step(work, 5, "The engine starts")
        await self._control.reach(Engine("enable"), step)

    async def _check_store(self, store: str) -> None:
        if not store:
            return
        if not store.startswith("/"):
            raise Invalid("store", "Choose a disk, or enter the absolute path of a folder like /srv/mail.")
        if store.startswith("/dev/"):
            found = next((disk for disk in await self._disks.disks() if disk.device == store), None)
            if found is None:
                raise Invalid("store", f"There is no disk {store[:40]}.")
            # "store": of a try that was cut off, it is filled again then, or with a store of before: that
            # is kept; the host tells them apart and refuses when there is mail on both sides.
            if found.role not in ("empty", "store"):
                raise Invalid("store", f"{store} is not empty: something of somebody may be on it.")


def _step(work: Work, number: int, text: str) -> Work:
    """Says where we are. What is said through the returned one counts as this step, so no bar goes back."""
    work.say(text, number, _STEPS)
    return Work(work.caller, work.session, lambda inner, done, total: work.say(inner, number, _STEPS))
