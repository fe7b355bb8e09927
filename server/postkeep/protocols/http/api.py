"""The REST API of the administration: /api/v1, described at /api/v1/openapi.json (row WEB-5)."""

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from postkeep import __version__
from postkeep.protocols.http import problems
from postkeep.protocols.http.access import Access
from postkeep.protocols.http.context import ApiServices
from postkeep.protocols.http.routes import aliases, domains, operation, session, settings, users

PREFIX = "/api/v1"
_WELCOME = (
    "Postkeep administration\n\n"
    "The REST API is below /api/v1, its description is /api/v1/openapi.json.\n"
    "On the server itself: postkeep --help\n"
)


def create_api(services: ApiServices) -> FastAPI:
    """The API itself, behind no door yet: see `guarded` and `trusted`."""
    app = FastAPI(
        title="Postkeep administration",
        version=__version__,
        description="Everything that the administration does. Errors are RFC 9457 problem details.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.services = services
    for module in (session, domains, users, aliases, operation, settings):
        app.include_router(module.router, prefix=PREFIX)
    app.add_api_route("/", _welcome, include_in_schema=False)
    app.add_api_route("/admin", _welcome, include_in_schema=False)
    problems.install(app, services.logs)
    return app


def guarded(app: FastAPI) -> ASGIApp:
    """For port 4040: who asks has to log in."""
    return _door(app, trusted=False)


def trusted(app: FastAPI) -> ASGIApp:
    """For the Unix socket, and for the command line in its own process: may do everything."""
    return _door(app, trusted=True)


def _door(app: FastAPI, *, trusted: bool) -> ASGIApp:
    services: ApiServices = app.state.services
    configuration = services.configuration
    return Access(
        app,
        services.authenticator,
        services.sessions,
        lambda: configuration.server.security,
        trusted=trusted,
    )


async def _welcome() -> PlainTextResponse:
    return PlainTextResponse(_WELCOME)


def _operation_id(route: APIRoute) -> str:
    return route.name
