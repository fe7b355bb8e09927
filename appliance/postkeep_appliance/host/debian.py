"""The machine itself: Debian with systemd-networkd, timesyncd, unbound and the engine's package."""

from pathlib import Path

from postkeep_appliance import __version__
from postkeep_appliance.host.clock import Clock, SystemClock
from postkeep_appliance.host.disks import DebianDisks
from postkeep_appliance.host.engine import DebianEngine
from postkeep_appliance.host.logs import DebianLogs
from postkeep_appliance.host.network import DebianNetwork
from postkeep_appliance.host.reset import DebianReset
from postkeep_appliance.host.run import Runner, SystemRunner
from postkeep_appliance.host.state import StateFolder
from postkeep_appliance.host.system import DebianSystem


class DebianHost:
    """All ports (port.Host). Files are below `root`, programs run by `run`: tests replace both."""

    def __init__(self, root: Path = Path("/"), run: Runner | None = None, clock: Clock | None = None) -> None:
        run = run or SystemRunner()
        clock = clock or SystemClock()
        self.product = ("Postkeep", __version__)
        self.state = StateFolder(root)
        self.network = DebianNetwork(root, run, clock)
        self.system = DebianSystem(root, run)
        self.engine = DebianEngine(root, run)
        self.disks = DebianDisks(root, run)
        self.logs = DebianLogs(root, run)
        self.reset = DebianReset(root, run, self.state, self.system, self.network, self.engine)
