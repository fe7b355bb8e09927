"""Set-up state, logging in and out."""

from typing import Annotated

from fastapi import APIRouter, Header, Request

from postkeep import __version__
from postkeep.protocols.http.access import SERVICE
from postkeep.protocols.http.context import Services, Who
from postkeep.protocols.http.models import LoginRequest, SessionOut, SetupState, WhoOut
from postkeep.services.rights import administrator

router = APIRouter(tags=["session"])


@router.get("/setup", summary="Whether this server is set up")
async def setup(services: Services) -> SetupState:
    return SetupState(
        configured=bool(services.configuration.server.domains), product="Postkeep", version=__version__
    )


@router.post("/session", status_code=201, summary="Log in; the token goes into Authorization: Bearer")
async def log_in(request: Request, body: LoginRequest, services: Services) -> SessionOut:
    peer = request.client.host if request.client else ""
    account = await services.authenticator.verify(body.user, body.password, peer=peer, service=SERVICE)
    who = administrator(account)
    token, seconds = services.sessions.open(account, peer)
    services.logs.security.write(
        f"{account.key} logged in to the administration from {peer or 'this machine'}"
    )
    return SessionOut(token=token, user=account.key, rights=who.rights, seconds=seconds)


@router.get("/session", summary="Who I am")
async def who_am_i(who: Who) -> WhoOut:
    return WhoOut(user=who.key, rights=who.rights, domain=who.domain)


@router.delete("/session", status_code=204, summary="Log out")
async def log_out(services: Services, authorization: Annotated[str, Header()] = "") -> None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        services.sessions.close(token.strip())
