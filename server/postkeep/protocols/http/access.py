"""The door of the administration: where requests may come from, who asks, and how much they may send.

An ASGI application around the API, so that a body is read only after its sender is known.
"""

import asyncio
import base64
import binascii
import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postkeep.config.security import SecuritySettings
from postkeep.domain.errors import AuthenticationFailed, Denied, PostkeepError
from postkeep.protocols.http.problems import problem, problem_of
from postkeep.protocols.http.sessions import Sessions
from postkeep.services.authentication import Authenticator
from postkeep.services.rights import ROOT, Administrator, administrator

SERVICE = "Administration"
BODY_LIMIT = 1 << 20
BATCH_LIMIT = 16 << 20
"""Octets of a request; the larger one holds for making many users."""
BODY_SECONDS = 60.0
_BATCHES = ("/api/v1/users/batch",)
_PUBLIC = {
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/setup"),
    ("POST", "/api/v1/session"),
    ("GET", "/"),
    ("GET", "/admin"),
}
_WORST_LOGIN = 4_096
REMOTE_REFUSED = (
    "administration from this address is switched off; to allow it, run on the server itself:"
    " postkeep setting set RemoteAdministration 1 (the setting AdministrationNetworks may limit it)"
)
_NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Access:
    """Lets through what is allowed. `trusted`: the Unix socket, where the kernel says who asks."""

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        sessions: Sessions,
        settings: Callable[[], SecuritySettings],
        *,
        trusted: bool = False,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._sessions = sessions
        self._settings = settings
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope.get("client") else ""
        limit = BATCH_LIMIT if scope["path"] in _BATCHES else BODY_LIMIT
        try:
            if not self._trusted:
                if not may_administer(peer, self._settings()):
                    await _refuse_remote(scope["path"])(scope, receive, send)
                    return
                _check_origin(headers)
            if (
                headers.get("content-length", "0").isdecimal()
                and int(headers.get("content-length", 0)) > limit
            ):
                await problem(413, f"a request has at most {limit} octets")(scope, receive, send)
                return
            scope["postkeep.administrator"] = await self._who(scope, headers, peer)
        except PostkeepError as error:
            await problem_of(error)(scope, receive, send)
            return
        await self._app(scope, BoundedBody(receive, limit), with_headers(send))

    async def _who(self, scope: Scope, headers: Headers, peer: str) -> Administrator | None:
        if self._trusted:
            return ROOT
        if (scope["method"], scope["path"]) in _PUBLIC:
            return None
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            account = self._sessions.account(value.strip(), peer)
            if account is None:
                raise AuthenticationFailed("the session has ended")
            return administrator(account)
        if scheme.lower() == "basic" and len(value) <= _WORST_LOGIN:
            login, password = _basic(value)
            account = await self._authenticator.verify(login, password, peer=peer, service=SERVICE)
            return administrator(account)
        raise AuthenticationFailed("log in with HTTP Basic or a session token")


def _check_origin(headers: Headers) -> None:
    """Nothing that another web site makes a browser send."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise Denied("this request was made by another web site")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Denied("this request was made by another web site")


def _refuse_remote(path: str) -> Response:
    """Says how to switch it on, not whether it is off or limited: that is nobody's business out there."""
    if path.startswith("/api"):
        return problem(403, REMOTE_REFUSED, _NO_STORE)
    return PlainTextResponse(f"{REMOTE_REFUSED}.\n", 403, _NO_STORE)


def may_administer(peer: str, settings: SecuritySettings) -> bool:
    """Whether requests from this address may administer (WEB-3). The machine itself always may.

    `peer` is the connection's own address: what a header says of it is never believed.
    """
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # ::ffff:192.0.2.1, as a socket for both families says it
    if address.is_loopback:
        return True
    if not settings.remote_administration:
        return False
    if not settings.administration_networks:
        return True
    for text in settings.administration_networks:
        try:
            if address in ipaddress.ip_network(text, strict=False):
                return True
        except ValueError:
            continue
    return False


def _basic(value: str) -> tuple[str, str]:
    """RFC 7617, UTF-8."""
    try:
        login, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise AuthenticationFailed("malformed Authorization field") from error
    if not colon:
        raise AuthenticationFailed("malformed Authorization field")
    return login, password


class BoundedBody:
    """receive() with a bound on octets and time of the whole request body (413, 408)."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit
        self._deadline: float | None = None
        self._more = True

    async def __call__(self) -> Message:
        if not self._more:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the request did not arrive in time") from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, "the request is too large")
        self._more = message.get("more_body", False)
        return message


def with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            more = [(name.encode(), value.encode()) for name, value in _NO_STORE.items()]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return wrapped
