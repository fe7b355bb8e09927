"""Composition: the agent's rooms on one host."""

from typing import get_args

from postkeep_appliance.agent.access import Access
from postkeep_appliance.agent.bundle import Bundles
from postkeep_appliance.agent.diagnostics import Diagnostics
from postkeep_appliance.agent.disks import DiskControl
from postkeep_appliance.agent.dispatch import Dispatcher, check_complete
from postkeep_appliance.agent.engine import EngineControl
from postkeep_appliance.agent.hostname import Hostname
from postkeep_appliance.agent.keyboard import Keyboard
from postkeep_appliance.agent.logs import LogReader
from postkeep_appliance.agent.network import Network
from postkeep_appliance.agent.power import Power
from postkeep_appliance.agent.reset import Reset
from postkeep_appliance.agent.sessions import Gate, Sessions
from postkeep_appliance.agent.setup import FirstStart
from postkeep_appliance.agent.status import StatusBoard
from postkeep_appliance.agent.time import Time
from postkeep_appliance.agent.work import Caller, Rule, Turn, Work
from postkeep_appliance.api import types
from postkeep_appliance.host.clock import Clock
from postkeep_appliance.host.port import Host

_ITSELF = Caller(0, 0, 0, "")


class Agent:
    """`recover` first, then serve `dispatcher`; `turn.finish()` before the end."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self.turn = Turn()
        self.sessions = Sessions(Gate(host.system, clock), host.system, host.state, clock)
        self.board = StatusBoard(host, clock)
        self._network = Network(host.network, host.state, clock)
        self._power = Power(host.system, clock, self.turn)
        self._reset = Reset(host, self._power)
        control = EngineControl(host.engine, clock)
        rules = self._rules(host, control, clock)
        check_complete(rules, get_args(types.Call))
        self.dispatcher = Dispatcher(rules, self.sessions, self.turn, self.board.changed)

    def _rules(self, host: Host, control: EngineControl, clock: Clock) -> dict[type, Rule]:
        network, board, sessions = self._network, self.board, self.sessions
        access = Access(host.system, host.engine, sessions)
        time, keyboard = Time(host.system, host.engine), Keyboard(host.system)
        disks = DiskControl(host.disks)
        return {
            types.Status: Rule(board.status),
            types.SetLanguage: Rule(board.set_language),
            types.Unlock: Rule(sessions.unlock),
            types.Lock: Rule(sessions.lock),
            types.ChangePassword: Rule(sessions.change_password, changes=True),
            types.SetUp: Rule(FirstStart(host, control).set_up, changes=True, atomic=True),
            types.ListAdapters: Rule(network.list),
            types.SetNetwork: Rule(network.set, changes=True),
            types.ConfirmNetwork: Rule(network.confirm, changes=True),
            types.UndoNetwork: Rule(network.undo, changes=True),
            types.SetHostname: Rule(Hostname(host.system, host.engine).set, changes=True),
            types.GetTime: Rule(time.get),
            types.SetTime: Rule(time.set, changes=True),
            types.SetSsh: Rule(access.set_ssh, changes=True),
            types.SetRemoteAdministration: Rule(access.set_remote_administration, changes=True),
            types.Power: Rule(self._power.act),
            types.Engine: Rule(control.act, changes=True),
            types.ListDisks: Rule(disks.list),
            types.GrowDisks: Rule(disks.grow, changes=True, atomic=True),
            types.ReadLog: Rule(LogReader(host.logs).read),
            types.TestNetwork: Rule(Diagnostics(host.network).test),
            types.SupportBundle: Rule(Bundles(host.logs, clock).make, changes=True),
            types.FactoryReset: Rule(self._reset.reset, changes=True, atomic=True),
            types.ListKeyboards: Rule(keyboard.list),
            types.SetKeyboard: Rule(keyboard.set, changes=True),
        }

    async def recover(self) -> None:
        """Ends what a power cut or a kill left half done: a reset goes on, a network trial goes back."""
        work = Work(_ITSELF, "", lambda text, done, total: None)
        if not await self._reset.recover(work):
            await self._network.recover()
