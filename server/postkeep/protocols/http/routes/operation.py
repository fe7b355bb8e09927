"""The running server: queue (SMT-4), services (SRV-1), status, logs (LOG-1)."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from postkeep.domain.errors import InUse, NotFound
from postkeep.protocols.http.context import ApiServices, Services, Who
from postkeep.protocols.http.models import LogLines, Page, QueueOut, ServiceOut
from postkeep.protocols.http.paging import Paged
from postkeep.queue.entry import QueueEntry
from postkeep.services.control import ServiceControl, ServiceState

router = APIRouter()
LOG_LINES = 5_000
ADMINISTRATION = "admin"
"""The service that this API is behind."""


@router.get("/queue", summary="Messages on their way out, waiting and in process", tags=["queue"])
async def queue(services: Services, who: Who, paging: Paged) -> Page[QueueOut]:
    who.require_read()
    return paging.page(
        services.queue.entries(),
        lambda entry: (entry.id, entry.sender, entry.last_reply, *entry.recipients),
        ("id", "sender", "size", "created", "next_try", "tries"),
        lambda entry: QueueOut(**entry._asdict()),
        "created",
    )


@router.post("/queue/retry", status_code=204, summary="Try all waiting messages now", tags=["queue"])
async def retry_all(services: Services, who: Who) -> None:
    who.require_write()
    _control(services)
    await services.queue.retry_all()
    services.logs.operations.write(f"{who}: tries the whole queue now")


@router.post("/queue/{queue_id}/retry", status_code=204, summary="Try a message now", tags=["queue"])
async def retry(services: Services, who: Who, queue_id: str) -> None:
    who.require_write()
    _control(services)
    entry = _entry(services, queue_id)
    await services.queue.retry(entry.id)
    services.logs.operations.write(f"{who}: tries {entry.id} now")


@router.delete(
    "/queue/{queue_id}", status_code=204, summary="Remove a message; nobody is told", tags=["queue"]
)
async def remove(services: Services, who: Who, queue_id: str) -> None:
    who.require_write()
    entry = _entry(services, queue_id)
    await services.queue.remove(entry.id)
    recipients = ", ".join(entry.recipients[:20])
    services.logs.operations.write(
        f"{who}: removed {entry.id} from the queue, from <{entry.sender}> to {recipients}"
    )


def _entry(services: ApiServices, queue_id: str) -> QueueEntry:
    for entry in services.queue.entries():
        if entry.id == queue_id:
            return entry
    raise NotFound(f"there is no message “{queue_id[:80]}” in the queue")


@router.get("/services", summary="Services and where they listen", tags=["services"])
async def service_list(services: Services, who: Who) -> list[ServiceOut]:
    who.require_read()
    return [_service(state) for state in _control(services).states()]


@router.post("/services/{name}/start", summary="Start a service", tags=["services"])
async def start_service(services: Services, who: Who, name: str) -> ServiceOut:
    who.require_write()
    state = await _control(services).start(name)
    services.logs.config.write(f"{who}: started {state.title}")
    return _service(state)


@router.post("/services/{name}/stop", summary="Stop a service; open connections go on", tags=["services"])
async def stop_service(
    services: Services,
    who: Who,
    name: str,
    force: Annotated[bool, Query(description="also the administration, which this request uses")] = False,
) -> ServiceOut:
    who.require_write()
    if name == ADMINISTRATION and who.key and not force:  # the command line comes through a socket
        raise InUse(
            "you are using this service: stopped, only the command line can start it again "
            "(postkeep service start admin); stop it with force=true if you mean it"
        )
    state = await _control(services).stop(name)
    services.logs.config.write(f"{who}: stopped {state.title}")
    return _service(state)


def _control(services: ApiServices) -> ServiceControl:
    if services.control is None:
        raise InUse("the engine does not run: start it with postkeep serve")
    return services.control


def _service(state: ServiceState) -> ServiceOut:
    return ServiceOut(
        name=state.name,
        title=state.title,
        tls=state.tls,
        running=state.running,
        listening=[f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in state.listening],
        configured=list(state.configured),
        failure=state.failure,
    )


@router.get("/status", summary="Version, uptime and counters", tags=["status"])
async def status(services: Services, who: Who) -> dict[str, str | int | float | bool]:
    who.require_read()
    return {name: value for name, value in services.status().items() if isinstance(value, str | int | float)}


@router.get("/logs/{name}", summary="The newest lines of a log", tags=["logs"])
async def log_lines(
    services: Services,
    who: Who,
    name: str,
    search: Annotated[str, Query(max_length=200, description="only lines that hold this text")] = "",
    limit: Annotated[int, Query(ge=1, le=LOG_LINES)] = 100,
    skip: Annotated[int, Query(ge=0, le=1 << 40, description="newest matching lines to leave out")] = 0,
) -> LogLines:
    who.require_read()
    log = services.logs.get(name)
    if log is None:
        raise NotFound(f"there is no log “{name[:80]}”")
    return LogLines(name=name, lines=await asyncio.to_thread(log.tail, limit, search, skip))
