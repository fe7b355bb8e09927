"""The API of a server that is not set up yet: its state, and the set-up itself (rows SET-1, WEB-3)."""

import hmac
import secrets
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from postkeep import __version__
from postkeep.domain.errors import Denied
from postkeep.protocols.http import problems
from postkeep.protocols.http.access import BoundedBody, with_headers
from postkeep.protocols.http.models import SetupState
from postkeep.runtime.logs import Logs
from postkeep.services.setup import Setup

BODY_LIMIT = 16 << 10
CODE_TRIES = 10
"""Wrong codes until a new one is made."""
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_WELCOME = (
    "Postkeep is not set up yet.\n\n"
    "On the server itself:  postkeep init --help\n"
    "Over the network:      POST /api/v1/setup as /api/v1/openapi.json describes it, with the one-time code\n"
    "                       that the console and the log show.\n"
)


class SetupRequest(BaseModel):
    """What the first set-up asks for."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(max_length=40, description="The one-time code shown on the console and in the log")
    hostname: str = Field(max_length=255, description="DNS name of this server, like mail.example.com")
    domain: str = Field(max_length=255, description="The primary e-mail domain, like example.com")
    administrator: str = Field(max_length=64, description="Name of the first administrator, a user too")
    password: str = Field(max_length=1_024, description="The administrator's password")
    remote_administration: bool = Field(
        False, description="Whether other hosts than the server itself may administer from then on"
    )


class OneTimeCode:
    """Twelve characters (60 bits). After CODE_TRIES wrong guesses it is replaced, and told anew."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._renew()

    def _renew(self) -> None:
        letters = "".join(secrets.choice(_ALPHABET) for _ in range(12))
        self._code = letters
        self._left = CODE_TRIES
        self._tell(f"{letters[:4]}-{letters[4:8]}-{letters[8:]}")

    def check(self, given: str) -> bool:
        """In constant time; dashes, blanks and case do not matter."""
        typed = "".join(given.split()).replace("-", "").upper()
        if hmac.compare_digest(typed.encode(), self._code.encode()):
            return True
        self._left -= 1
        if not self._left:
            self._renew()
        return False


def create_first_start_api(
    code: OneTimeCode, set_up: Callable[[Setup], Awaitable[str]], logs: Logs
) -> ASGIApp:
    """`set_up` makes the data folder and answers the administrator's address; raises as services.setup."""
    app = FastAPI(
        title="Postkeep first set-up",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app, logs)

    @app.get("/api/v1/setup", summary="Whether this server is set up")
    async def state() -> SetupState:
        return SetupState(configured=False, product="Postkeep", version=__version__)

    @app.post("/api/v1/setup", status_code=201, summary="Set the server up, once")
    async def setup(request: Request, body: SetupRequest) -> dict[str, str]:
        peer = request.client.host if request.client else "this machine"
        if not code.check(body.code):
            logs.security.write(f"First set-up: wrong one-time code from {peer}")
            raise Denied("the one-time code is wrong; the console and the log show it")
        account = await set_up(
            Setup(body.hostname, body.domain, body.administrator, body.password, body.remote_administration)
        )
        logs.config.write(f"First set-up done from {peer}: administrator {account}")
        return {"administrator": account}

    @app.get("/{path:path}", include_in_schema=False)
    async def welcome(path: str) -> Response:
        if path.startswith("api/"):
            raise HTTPException(503, "this server is not set up yet: POST /api/v1/setup")
        return PlainTextResponse(_WELCOME)

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app(scope, BoundedBody(receive, BODY_LIMIT), with_headers(send))

    return bounded
