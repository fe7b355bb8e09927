"""What the deployment says (row APP-6): the part before the network, and the set-up itself after it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from postkeep_appliance.agent.status import DOMAIN_STATE, LANGUAGE_STATE
from postkeep_appliance.api.types import SetUp
from postkeep_appliance.boot.identity import KEYS_ONLY
from postkeep_appliance.boot.memory import Memory, Say
from postkeep_appliance.guestinfo.declarations import Declaration
from postkeep_appliance.guestinfo.properties import Properties, Said
from postkeep_appliance.guestinfo.sources import Source, read_all, wipe_all
from postkeep_appliance.guestinfo.values import Reader
from postkeep_appliance.host.files import read_small, remove, write_atomically
from postkeep_appliance.host.port import Host, HostError
from postkeep_appliance.host.state import FIRST_PASSWORD_MARK

ADMINISTRATOR = "admin"
PROPERTIES = "properties"
"""Topic of notices."""
_AUTHORIZED_KEYS = "root/.ssh/authorized_keys"
_KEYS_ONLY_TEXT = """\
# The deployment gave a key for root and no password: root still has the documented first one, which must open
# nothing from the network. To allow passwords again: change it on the console, then remove this file and
# restart ssh (which does not start without this file before).
PasswordAuthentication no
KbdInteractiveAuthentication no
"""

_GIVEN_AGAIN = (
    "Deployment: the host gave this machine its passwords once more, and does so at each start. They were "
    "wiped; clear the passwords in this VM's vApp options (or its guestinfo parameters)."
)

SetUpFunction = Callable[[SetUp], Awaitable[None]]
"""The agent's set-up of a new machine. Raises HostError with what to do."""


class Heard(NamedTuple):
    """`trouble`: sentences on what could not be read or is wrong."""

    said: Said
    trouble: tuple[str, ...]


class Deployment:
    """Heeded once for each virtual machine: what an administrator changes later is never undone by it.

    Nothing of what was read is kept between the two parts: the second one reads it again, then wipes it.
    """

    def __init__(
        self,
        host: Host,
        root: Path,
        memory: Memory,
        sources: Sequence[Source],
        declarations: Mapping[str, Declaration],
        say: Say,
        unfinished: Callable[[], bool],
    ) -> None:
        """`unfinished`: whether a set-up began and did not come to its end."""
        self._host = host
        self._unfinished = unfinished
        self._root = root
        self._memory = memory
        self._sources = sources
        self._declarations = declarations
        self._say = say

    async def _hear(self) -> Heard:
        zones = {*await self._host.system.zones(), "Etc/UTC"}
        said, unreadable = read_all(self._sources, self._declarations, Reader(zones), self._say)
        labels = {one.name: one.label for one in self._declarations.values()}
        trouble = [f"Deployment: {text}." for text in unreadable]
        trouble += [f"Deployment, {labels[one.name]}: {one.reason}" for one in said.rejected]
        trouble += [f"Deployment: there is no property {key}." for key in said.ignored]
        return Heard(said, tuple(trouble))

    def _wipe_again(self) -> Sequence[str]:
        """vCenter writes the OVF environment anew at each power-on, for every local user to read.

        Before the engine and all that talks to the network start.
        """
        said, _ = read_all(self._sources, self._declarations, Reader(()), lambda _: None)
        found = said.given & {one.name for one in self._declarations.values() if one.secret}
        notices = self._wipe()
        if found and not notices:
            notices = [_GIVEN_AGAIN]
        for text in notices:
            self._say(text)
        return notices

    def _wipe(self) -> list[str]:
        """What could not be wiped, for the console."""
        left = wipe_all(self._sources, self._declarations)
        return [f"Deployment: the passwords could not be wiped; {advice}." for advice in left]

    # --- before the network

    async def apply(self, instance: str) -> Sequence[str]:
        """All but the set-up and SSH, which need network and engine. What is to be noted.

        Of a deployment that was heeded only the passwords are looked for.
        """
        if self._memory.applied == instance:
            return self._wipe_again()
        if self._by_hand():
            return ()
        said, _ = await self._hear()
        if not said.given:
            return ()
        properties, failures = said.properties, []
        for title, work in (
            ("Network", self._network(properties)),
            ("Host name", self._hostname(properties)),
            ("Root's access", self._access(properties)),
            ("Time", self._time(said)),
            ("Language and domain", self._suggestions(properties)),
        ):
            try:
                await work
            except (HostError, OSError) as error:
                failures.append(f"Deployment, {title}: {error}")
                self._say(failures[-1])
        return failures

    async def _network(self, properties: Properties) -> None:
        if properties.network is None:
            return
        adapters = self._host.network.adapters()
        if not adapters:
            raise HostError("there is no network adapter")
        self._host.network.write(adapters[0].name, properties.network)
        self._say(f"The adapter {adapters[0].name} has its settings")

    async def _hostname(self, properties: Properties) -> None:
        if properties.hostname is not None:
            await self._host.system.set_hostname(properties.hostname)
            self._say(f"The host name is {properties.hostname}")

    async def _access(self, properties: Properties) -> None:
        """SSH is never open for passwords while root has the first one: the rule comes before the key."""
        first = self._host.state.read(FIRST_PASSWORD_MARK) is not None
        if properties.ssh_key is not None:
            if first:
                write_atomically(self._root / KEYS_ONLY, _KEYS_ONLY_TEXT.encode(), 0o644)
            self._authorize(properties.ssh_key)
            self._say("Root has the SSH key of the deployment")
        if properties.root_password is not None:
            await self._host.system.set_password(properties.root_password)
            self._host.state.remove(FIRST_PASSWORD_MARK)
            remove(self._root / KEYS_ONLY)
            self._say("Root has the password of the deployment")

    def _may_open_ssh(self, properties: Properties) -> bool:
        """Only for those who were given a way in, and never with the documented first password (CON-3)."""
        if self._host.state.read(FIRST_PASSWORD_MARK) is not None:
            return properties.ssh_key is not None and (self._root / KEYS_ONLY).exists()
        return properties.root_password is not None or properties.ssh_key is not None

    def _authorize(self, key: str) -> None:
        path = self._root / _AUTHORIZED_KEYS
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = (read_small(path) or "").splitlines()
        if key not in lines:
            write_atomically(path, "".join(f"{line}\n" for line in [*lines, key]).encode(), 0o600)

    async def _time(self, said: Said) -> None:
        if not {"time_zone", "ntp"} & said.given:
            return
        now = await self._host.system.time()
        zone = said.properties.time_zone if "time_zone" in said.given else None
        await self._host.system.set_time(zone or now.zone, said.properties.ntp or now.ntp)
        self._say("Time zone and time servers are set")

    async def _suggestions(self, properties: Properties) -> None:
        for state, value in ((LANGUAGE_STATE, properties.language), (DOMAIN_STATE, properties.domain)):
            if value is not None:
                self._host.state.write(state, value.encode())

    # --- after it

    async def finish(self, instance: str, set_up: SetUpFunction) -> None:
        """SSH and the set-up, if enough was said; then secrets are wiped and all of it counts as heeded.

        A power cut in the middle: the next start applies and finishes all of it once more.
        """
        if self._memory.applied == instance:
            return
        trouble: list[str] = []
        if not self._by_hand():
            heard = await self._hear()
            trouble += heard.trouble
            if not heard.said.given and not self._is_set_up():
                # Nothing yet; a host may say something at a later start (a standalone ESXi often does).
                self._memory.notify(PROPERTIES, trouble)
                return
            trouble += await self._set_up(heard.said.properties, set_up)
        trouble += self._wipe()
        for text in trouble:
            self._say(text)
        self._memory.notify(PROPERTIES, trouble)
        self._memory.set_applied(instance)

    def _by_hand(self) -> bool:
        """Set up at the console; or by us, with a power cut just before the wiping. Nothing is applied."""
        return not self._memory.applied and self._is_set_up()

    def _is_set_up(self) -> bool:
        return self._host.engine.is_set_up() and not self._unfinished()

    async def _set_up(self, properties: Properties, set_up: SetUpFunction) -> list[str]:
        failures = []
        if self._may_open_ssh(properties):
            try:
                await self._host.system.set_ssh(True)
                self._say("SSH is on")
            except HostError as error:
                failures.append(f"Deployment: SSH could not be switched on: {error}")
        if self._is_set_up():
            return failures
        call = self.call(properties)
        if call is None:
            self._say("The deployment leaves something open: the console asks for it")
            return failures
        try:
            await set_up(call)
        except HostError as error:
            why = str(error).rstrip(".")
            failures.append(f"The unattended set-up failed: {why}. Finish it on the console.")
        return failures

    def call(self, properties: Properties) -> SetUp | None:
        """What suffices for a set-up without a question; None when something is missing."""
        by_use: dict[str, list[bool]] = {"needed": [], "access": [], "optional": []}
        for one in self._declarations.values():
            by_use[one.use].append(getattr(properties, one.name, None) is not None)
        if not all(by_use["needed"]) or not any(by_use["access"]):
            return None
        assert properties.hostname is not None
        assert properties.domain is not None
        assert properties.administrator_password is not None
        return SetUp(
            hostname=properties.hostname,
            domain=properties.domain,
            administrator=properties.administrator or ADMINISTRATOR,
            administrator_password=properties.administrator_password,
            store="",
            remote_administration=properties.remote_administration is not False,
        )
