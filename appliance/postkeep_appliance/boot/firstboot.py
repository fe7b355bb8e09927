"""What runs at each start before network, SSH, agent and engine (rows APP-5, APP-6).

A list of steps. Each looks whether there is something to do, can be repeated after a power cut at any point,
and never holds the start up: one that fails is noted for the console and the next one goes on.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from postkeep_appliance.boot.deployment import PROPERTIES, Deployment
from postkeep_appliance.boot.identity import Identity
from postkeep_appliance.boot.memory import Memory, Say
from postkeep_appliance.host.port import Host, HostError
from postkeep_appliance.host.reset import RESET_MARK
from postkeep_appliance.host.state import FIRST_PASSWORD_MARK

IMAGE_MARK = "etc/postkeep-image"
"""The image's build leaves it; a machine that merely got the package has none."""


@dataclass(frozen=True, slots=True)
class Step:
    """`work` returns what is to be noted for the console. `title` says what failed when it does."""

    topic: str
    title: str
    work: Callable[[], Awaitable[Sequence[str]]]


class FirstBoot:
    """All steps, in their order. `prepare` waits until the devices are there. `is_image`: see IMAGE_MARK."""

    def __init__(
        self,
        host: Host,
        identity: Identity,
        memory: Memory,
        deployment: Deployment,
        say: Say,
        prepare: Callable[[], Awaitable[None]],
        *,
        is_image: bool,
    ) -> None:
        self._host = host
        self._identity = identity
        self._memory = memory
        self._deployment = deployment
        self._say = say
        self._prepare = prepare
        self._is_image = is_image

    async def run(self) -> None:
        """Never raises for what a step meets."""
        if self._host.state.read(RESET_MARK) is not None:
            await self._finish_reset()
            return
        if self._host.engine.is_set_up():
            self._memory.notify(PROPERTIES, ())  # of the time before: nobody needs it any more
        for step in (
            Step("devices", "Devices were not ready in time", self._devices),
            Step("identity", "This machine's identity could not be made new", self._renew),
            Step("growth", "The disks could not be grown", self._grow),
            Step("store", "The disk for the store could not be used", self._store),
            Step("deployment", "What the deployment says could not be applied", self._apply),
        ):
            await self._do(step)

    async def _do(self, step: Step) -> None:
        try:
            notices = list(await step.work())
        except (HostError, OSError) as error:
            self._say(f"{step.title}: {error}")
            notices = [f"{step.title}: {error}"]
        try:
            self._memory.notify(step.topic, notices)
        except HostError as error:
            self._say(str(error))

    # --- a factory reset that the power cut off

    async def _finish_reset(self) -> None:
        """As the agent does it, but before the network; then the machine starts again.

        When a step fails nothing else is begun: the agent, once it runs, tries again.
        """
        self._say("An interrupted factory reset is finished")
        steps = self._host.reset.steps()
        try:
            for number, step in enumerate(steps, 1):
                self._say(f"{step} ({number} of {len(steps)})")
                await self._host.reset.do(step)
            self._host.state.remove(RESET_MARK)
            await self._host.system.power("restart")
        except (HostError, OSError) as error:
            self._say(f"The factory reset could not be finished: {error}")

    # --- steps

    async def _devices(self) -> Sequence[str]:
        await self._prepare()
        return ()

    async def _renew(self) -> Sequence[str]:
        instance = self._identity.instance()
        before = self._memory.instance
        if instance == before or (not before and not self._untouched()):
            for kind in await self._identity.make_host_keys(fresh=False):
                self._say(f"The SSH host key {kind} was missing and was made")
            if not before:
                self._memory.set_instance(instance)
            return ()
        copy = before != ""
        self._say(
            "This is a copy: it gets an identity of its own" if copy else "This machine gets its identity"
        )
        notices = await self._identity.renew(copy=copy)
        if copy and not self._memory.applied:
            self._memory.set_applied(before)  # so that what is said to the copy counts for it
        self._memory.set_instance(instance)
        return notices

    def _untouched(self) -> bool:
        """Whether this is our image as it came, or after a factory reset: nobody has been here yet.

        When the package was put on a Debian machine that somebody runs, its keys and disks are his.
        """
        return self._host.state.read(FIRST_PASSWORD_MARK) is not None

    async def _grow(self) -> Sequence[str]:
        """On our image alone, at each start: a partition table of somebody's own machine is his affair."""
        if not (self._is_image or self._untouched()):
            return ()
        if await self._host.disks.grow(self._tell):
            self._say("The disks have grown")
        return ()

    async def _store(self) -> Sequence[str]:
        """A disk that is there for the store and holds nothing is taken before anything is set up.

        Later an empty disk is somebody's own affair: the console offers it.
        """
        if len(self._host.disks.spaces()) > 1:
            self._host.disks.tidy()  # it may be that the power was cut just before that
            return ()
        if not self._untouched() or self._host.engine.is_set_up():
            return ()
        disks = await self._host.disks.disks()
        ready = [disk for disk in disks if disk.role == "store"]
        empty = [disk for disk in disks if disk.role == "empty"]
        chosen = ready or empty
        if not chosen:
            return ()
        if len(chosen) > 1:
            names = ", ".join(disk.device for disk in chosen)
            return (f"Several disks could hold the mail store: {names}. Choose one in the set-up.",)
        (disk,) = chosen
        self._say(f"The mail store gets the disk {disk.device} ({disk.size / 2**30:.1f} GiB)")
        await self._host.disks.use_as_store(disk.device, self._tell)
        return ()

    async def _apply(self) -> Sequence[str]:
        return await self._deployment.apply(self._identity.instance())

    def _tell(self, text: str, done: int, total: int) -> None:
        self._say(text)
