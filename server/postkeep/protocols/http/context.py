"""What the REST API works on, handed in by who builds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from postkeep.config.server import ServerConfig
from postkeep.protocols.http.sessions import Sessions
from postkeep.queue.queue import Queue
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.accounts import AccountService
from postkeep.services.authentication import Authenticator
from postkeep.services.configuration import Configuration
from postkeep.services.control import ServiceControl
from postkeep.services.directory import Directory
from postkeep.services.rights import Administrator
from postkeep.storage.store import MailStore


@dataclass(frozen=True, slots=True)
class ApiServices:
    """`control` is None when no engine runs (the command line works on the folder itself).

    `status` gives numbers by name for GET /status.
    """

    configuration: Configuration
    directory: Directory
    accounts: AccountService
    authenticator: Authenticator
    store: MailStore
    queue: Queue
    logs: Logs
    clock: Clock
    sessions: Sessions
    status: Callable[[], Mapping[str, object]]
    control: ServiceControl | None = None
    check_settings: Callable[[ServerConfig, ServerConfig], None] | None = None
    """(before, after): raises ConfigError when a changed setting names what cannot be used; blocking."""


def services_of(request: Request) -> ApiServices:
    services: ApiServices = request.app.state.services
    return services


def administrator_of(request: Request) -> Administrator:
    """Who asks; protocols.http.access has made sure of it."""
    who: Administrator = request.scope["postkeep.administrator"]
    return who


Services = Annotated[ApiServices, Depends(services_of)]
Who = Annotated[Administrator, Depends(administrator_of)]
