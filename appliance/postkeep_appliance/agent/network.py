"""Network settings with confirm-or-roll-back (row CON-4)."""

import asyncio
import contextlib
import logging

import msgspec

from postkeep_appliance.agent.work import Refused, Work
from postkeep_appliance.api.types import (
    Adapter,
    Adapters,
    ConfirmNetwork,
    Done,
    ListAdapters,
    Pending,
    SetNetwork,
    UndoNetwork,
)
from postkeep_appliance.host import netcheck
from postkeep_appliance.host.clock import Clock, Timer
from postkeep_appliance.host.port import HostError, NetworkPort, StatePort

CONFIRM_SECONDS = 60
RETRY_SECONDS = 15
"""Until an undo that failed is tried again."""
STATE = "network-pending"

_log = logging.getLogger("postkeep.agent")


class _Trial(msgspec.Struct, frozen=True):
    """What is undone unless it is confirmed: durable before the first change."""

    adapter: str
    saved: str | None


class Network:
    """One trial at a time. `recover` at start undoes what a power cut or a kill left."""

    def __init__(self, host: NetworkPort, state: StatePort, clock: Clock) -> None:
        self._host = host
        self._state = state
        self._clock = clock
        self._timer: Timer | None = None
        self._undo_turn = asyncio.Lock()
        self._undo_begun = False
        """From then on the trial cannot be kept, though it is there until the old settings hold again."""
        self._expiry: asyncio.Task[None] | None = None

    async def recover(self) -> None:
        trial = self._trial()
        if trial is not None:
            _log.warning("network settings of %s were never confirmed: the old ones come back", trial.adapter)
            await self._undo(trial)

    def _trial(self) -> _Trial | None:
        octets = self._state.read(STATE)
        if octets is None:
            return None
        try:
            return msgspec.json.decode(octets, type=_Trial)
        except msgspec.MsgspecError:
            _log.error("the state %s is damaged and thrown away", STATE)
            self._state.remove(STATE)
            return None

    async def list(self, call: ListAdapters, work: Work) -> Adapters:
        return Adapters(
            tuple(
                Adapter(
                    facts.name,
                    facts.mac,
                    facts.link,
                    facts.addresses,
                    facts.gateway,
                    self._host.settings(facts.name),
                )
                for facts in self._host.adapters()
            )
        )

    async def set(self, call: SetNetwork, work: Work) -> Pending:
        if self._trial() is not None:
            raise Refused("busy", "Keep or undo the change that is being tried first.")
        known = [facts.name for facts in self._host.adapters()]
        if call.adapter not in known:
            raise Refused("invalid", "There is no such network adapter.", "adapter")
        others = {name: self._host.settings(name) for name in known if name != call.adapter}
        settings = netcheck.check(call.adapter, call.settings, others)
        trial = _Trial(call.adapter, self._host.saved(call.adapter))
        self._state.write(STATE, msgspec.json.encode(trial))
        self._undo_begun = False
        _log.info("network settings of %s are tried by %s", call.adapter, work.caller)
        try:
            work.say(f"The settings of {call.adapter} are tried")
            self._host.write(call.adapter, settings)
            await self._host.apply(call.adapter)
            work.say("Waiting for the gateway")
            lost = not await self._host.gateway_answers(call.adapter, settings)
        except BaseException:
            await self._undo(trial)
            raise
        self._timer = self._clock.call_later(CONFIRM_SECONDS, self._expired)
        text = (
            "The gateway does not answer under the new settings: undo them unless you know why."
            if lost
            else "The gateway answers under the new settings."
        )
        return Pending(CONFIRM_SECONDS, lost, text)

    def _expired(self) -> None:
        """Does not wait for its turn among the calls: none of them may keep the machine out of reach."""
        trial = self._trial()
        self._timer = None
        if trial is not None:
            _log.warning("network settings of %s were not confirmed in time", trial.adapter)
            self._undo_begun = True
            self._expiry = asyncio.get_running_loop().create_task(self._undo_late(trial))

    async def _undo_late(self, trial: _Trial) -> None:
        with contextlib.suppress(HostError, OSError):  # logged, and tried again
            await self._undo(trial)

    async def _undo(self, trial: _Trial) -> None:
        """The state goes last: until the old settings hold again, a restart would do this once more.

        Raises HostError, OSError when they cannot be put back; it is tried again later.
        """
        self._undo_begun = True
        async with self._undo_turn:
            self._stop_timer()
            if self._trial() is None:  # the one before has done it
                return
            try:
                self._host.restore(trial.adapter, trial.saved)
                await self._apply_again(trial)
                self._state.remove(STATE)
            except (HostError, OSError) as error:
                _log.error("the old network settings of %s cannot be put back: %s", trial.adapter, error)
                self._timer = self._clock.call_later(RETRY_SECONDS, self._expired)
                raise

    async def _apply_again(self, trial: _Trial) -> None:
        try:
            await self._host.apply(trial.adapter)
        except HostError as error:  # they are on disk and hold from the next boot
            _log.error("the old network settings of %s cannot be applied: %s", trial.adapter, error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pending(self) -> _Trial:
        trial = self._trial()
        if trial is None:
            raise Refused(
                "failed", "Nothing is being tried any more: the time was over, the old settings are back."
            )
        return trial

    async def confirm(self, call: ConfirmNetwork, work: Work) -> Done:
        trial = self._pending()
        if self._undo_begun:
            raise Refused("failed", "It is too late to keep these settings: the old ones are being put back.")
        self._stop_timer()
        self._state.remove(STATE)
        _log.info("network settings of %s are kept by %s", trial.adapter, work.caller)
        return Done(f"The new settings of {trial.adapter} are kept.")

    async def undo(self, call: UndoNetwork, work: Work) -> Done:
        trial = self._pending()
        await self._undo(trial)
        return Done(f"The old settings of {trial.adapter} are back.")
