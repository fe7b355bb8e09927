"""postkeep-firstboot and postkeep-unattended: what systemd starts, put together."""

import asyncio
import logging
import os
import sys
from pathlib import Path

from postkeep_appliance.agent.engine import EngineControl
from postkeep_appliance.agent.setup import FirstStart
from postkeep_appliance.agent.work import Caller, Refused, Work
from postkeep_appliance.api.types import SetUp
from postkeep_appliance.boot.deployment import Deployment
from postkeep_appliance.boot.firstboot import IMAGE_MARK, FirstBoot
from postkeep_appliance.boot.identity import Identity
from postkeep_appliance.boot.memory import Memory, Say
from postkeep_appliance.guestinfo import rpctool
from postkeep_appliance.guestinfo.cdrom import EnvironmentCd
from postkeep_appliance.guestinfo.declarations import load
from postkeep_appliance.guestinfo.sources import OvfCd, OvfVariable, PlainVariables, Source
from postkeep_appliance.host.clock import SystemClock
from postkeep_appliance.host.debian import DebianHost
from postkeep_appliance.host.port import Host, HostError
from postkeep_appliance.host.run import SystemRunner

_ROOT = Path("/")


def say(text: str) -> None:
    """A line for console and journal; what a host or an administrator wrote cannot disturb either."""
    print("Postkeep: " + "".join(char if char.isprintable() else "?" for char in text), flush=True)


def firstboot() -> None:
    """Entry point. Ends with 0 whatever a step met: the console says it."""
    _only_root()
    asyncio.run(_first_boot())


def unattended() -> None:
    """Entry point. Ends with 0 likewise."""
    _only_root()
    asyncio.run(_unattended())


async def _first_boot() -> None:
    host, identity, memory = _parts()
    run = SystemRunner()

    async def settle() -> None:
        await run(["udevadm", "settle", "--timeout=20"], check=False)

    deployment = _deployment(host, memory, _first_start(host))
    is_image = (_ROOT / IMAGE_MARK).exists()
    await FirstBoot(host, identity, memory, deployment, say, settle, is_image=is_image).run()


async def _unattended() -> None:
    host, identity, memory = _parts()
    first = _first_start(host)
    caller = Caller(os.getuid(), os.getgid(), os.getpid(), "")

    async def set_up(call: SetUp) -> None:
        try:
            done = await first.set_up(call, Work(caller, "", _Progress(say)))
        except Refused as error:
            raise HostError(error.text) from error
        say(done.text)

    try:
        await _deployment(host, memory, first).finish(identity.instance(), set_up)
    except (HostError, OSError) as error:
        say(f"What the deployment says could not be finished: {error}")


class _Progress:
    """Each text once, however often it comes."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._last = ""

    def __call__(self, text: str, done: int, total: int) -> None:
        if text != self._last:
            self._last = text
            self._say(text)


def _parts() -> tuple[Host, Identity, Memory]:
    host: Host = DebianHost(_ROOT)
    return host, Identity(_ROOT, SystemRunner()), Memory(host.state)


def _first_start(host: Host) -> FirstStart:
    return FirstStart(host, EngineControl(host.engine, SystemClock()))


def _deployment(host: Host, memory: Memory, first: FirstStart) -> Deployment:
    declarations = load()
    tool = rpctool.RpcTool()
    sources: list[Source] = [
        OvfVariable(tool),
        OvfCd(EnvironmentCd(_mount)),
        PlainVariables(tool, declarations),
    ]
    return Deployment(host, _ROOT, memory, sources, declarations, say, first.unfinished)


def _mount(command: list[str]) -> None:
    output = rpctool.run(command)
    if output.status != 0:
        raise OSError(output.err.decode("utf-8", "replace").strip()[:200] or f"status {output.status}")


def _only_root() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if os.geteuid() != 0:
        sys.exit("this is for systemd to start, as root")
