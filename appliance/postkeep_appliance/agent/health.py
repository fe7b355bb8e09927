"""Facts of the machine -> the lines of the start screen. Pure."""

from collections.abc import Sequence

from postkeep_appliance.api.types import EngineState, Health, Space
from postkeep_appliance.host.port import Memory

FEW_FREE = 0.15
"""Share of a disk that is free: a warning below it, an error below a third of it."""
LITTLE_MEMORY = 0.10


def lines(
    *,
    engine: EngineState,
    spaces: Sequence[Space],
    memory: Memory,
    synchronized: bool,
    failed_units: Sequence[str],
    first_password: bool,
    links: Sequence[tuple[str, bool, bool]],
) -> tuple[Health, ...]:
    """`links`: (adapter, has link, has addresses). In the order in which a person should look."""
    found = [_engine(engine)]
    if first_password:
        found.append(
            Health(
                "password", "warning", "Root has the documented first password", "Change it here; SSH waits."
            )
        )
    found += [_space(one) for one in spaces]
    found.append(_memory(memory))
    found.append(_network(links))
    found.append(
        Health("time", "ok", "The clock is synchronized")
        if synchronized
        else Health(
            "time",
            "warning",
            "The clock is not synchronized",
            "Set NTP servers that this network can reach; a wrong time breaks TLS and signatures.",
        )
    )
    found.append(
        Health(
            "services",
            "error",
            f"Failed: {', '.join(failed_units[:5])}{' …' if len(failed_units) > 5 else ''}",
            "See the log “system”.",
        )
        if failed_units
        else Health("services", "ok", "All services of the system run")
    )
    return tuple(found)


def _engine(state: EngineState) -> Health:
    if state is EngineState.RUNNING:
        return Health("engine", "ok", "The mail server runs")
    if state is EngineState.STARTING:
        return Health("engine", "warning", "The mail server is starting", "Wait a moment.")
    if state is EngineState.NOT_SET_UP:
        return Health("engine", "warning", "The mail server is not set up", "Run the set-up here.")
    if state is EngineState.FAILED:
        return Health("engine", "error", "The mail server does not run: it failed", "See the log “error”.")
    if state is EngineState.DISABLED:
        return Health("engine", "warning", "The mail server is switched off", "Enable it here.")
    return Health("engine", "warning", "The mail server is stopped", "Start it here.")


def _space(space: Space) -> Health:
    name = "system" if space.path == "/" else "store"
    share = space.free / space.size if space.size else 0.0
    text = f"Disk of the {name}: {_size(space.free)} of {_size(space.size)} free"
    if share >= FEW_FREE:
        return Health(f"disk {name}", "ok", text)
    advice = "Enlarge the virtual disk in the hypervisor, then “Grow disks” here."
    return Health(f"disk {name}", "warning" if share >= FEW_FREE / 3 else "error", text, advice)


def _memory(memory: Memory) -> Health:
    text = f"Memory: {_size(memory.available)} of {_size(memory.total)} available"
    if memory.total and memory.available / memory.total >= LITTLE_MEMORY:
        return Health("memory", "ok", text)
    return Health("memory", "warning", text, "Give this virtual machine more memory.")


def _network(links: Sequence[tuple[str, bool, bool]]) -> Health:
    if any(link and addresses for _, link, addresses in links):
        return Health("network", "ok", "The network is connected")
    if any(link for _, link, _ in links):
        return Health("network", "error", "No adapter has an address", "Enter one here, or see to DHCP.")
    return Health("network", "error", "No adapter has a link", "Connect it in the hypervisor's settings.")


def _size(octets: int) -> str:
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if octets >= factor:
            return f"{octets / factor:.1f} {unit}"
    return f"{octets // 1024} KiB"
