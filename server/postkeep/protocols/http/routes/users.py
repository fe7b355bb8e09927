"""Users (rows USR-1, USR-3, USR-4) and what guessing has locked (SRV-4)."""

from typing import Annotated

from fastapi import APIRouter, Query

from postkeep.domain.account import Account
from postkeep.domain.errors import NotFound
from postkeep.protocols.http.context import ApiServices, Services, Who
from postkeep.protocols.http.models import (
    BlockOut,
    Page,
    PasswordIn,
    UserChange,
    UserIn,
    UserOut,
    UsersAdded,
    UsersIn,
)
from postkeep.protocols.http.paging import Paged
from postkeep.runtime.limits import network_of
from postkeep.services.accounts import NewUser

router = APIRouter(tags=["users"])
_KEYS = ("name", "domain", "key", "full_name", "description", "enabled", "rights", "quota_bytes")


def _out(services: ApiServices, account: Account) -> UserOut:
    identity = services.store.account_id(account.key)
    used = (0, 0) if identity is None else services.store.usage(identity)
    return UserOut.of(account, used, services.authenticator.guard.account_locked(account.key))


@router.get("/users", summary="All users that you may see")
async def users(
    services: Services,
    who: Who,
    paging: Paged,
    domain: Annotated[str, Query(max_length=255, description="only users of this domain")] = "",
) -> Page[UserOut]:
    seen = (
        account
        for account in services.directory.accounts()
        if who.sees(account.domain) and (not domain or account.domain == domain.lower())
    )
    return paging.page(
        seen,
        lambda account: (account.key, account.full_name, account.description, *account.aliases),
        _KEYS,
        lambda account: _out(services, account),
        "key",
    )


@router.post("/users", status_code=201, summary="Add a user")
async def add_user(services: Services, who: Who, body: UserIn) -> UserOut:
    (account,) = await services.accounts.add_users(who, [NewUser(**body.model_dump())])
    return _out(services, account)


@router.post("/users/batch", status_code=201, summary="Add many users, all or none, in one save")
async def add_users(services: Services, who: Who, body: UsersIn) -> UsersAdded:
    added = await services.accounts.add_users(who, [NewUser(**user.model_dump()) for user in body.users])
    return UsersAdded(added=len(added))


@router.get("/users/{login}", summary="One user")
async def user(services: Services, who: Who, login: str) -> UserOut:
    account = services.directory.account(login)
    if account is None or not who.sees(account.domain):
        raise NotFound(f"there is no user “{login[:80]}”")
    return _out(services, account)


@router.patch("/users/{login}", summary="Change a user: enabled, rights, quota, forwards, aliases, …")
async def change_user(services: Services, who: Who, login: str, body: UserChange) -> UserOut:
    changes = body.model_dump(exclude_none=True)
    return _out(services, await services.accounts.change_user(who, login, changes))


@router.put("/users/{login}/password", status_code=204, summary="Set a user's password")
async def set_password(services: Services, who: Who, login: str, body: PasswordIn) -> None:
    await services.accounts.set_password(who, login, body.password)


@router.delete("/users/{login}", status_code=204, summary="Remove a user, and their mail unless it is kept")
async def remove_user(services: Services, who: Who, login: str, keep_mail: bool = False) -> None:
    await services.accounts.remove_users(who, [login], keep_mail=keep_mail)


@router.get(
    "/blocks", summary="Addresses blocked and accounts locked for guessing passwords", tags=["security"]
)
async def blocks(services: Services, who: Who) -> list[BlockOut]:
    who.require_read()
    return [BlockOut(**block._asdict()) for block in services.authenticator.blocks()]


@router.delete("/blocks", status_code=204, summary="Unlock all accounts and addresses now", tags=["security"])
async def release_all(services: Services, who: Who) -> None:
    who.require_write()
    services.authenticator.guard.release_all()
    services.logs.security.write(f"{who}: unlocked all accounts and addresses")


@router.delete(
    "/blocks/{name:path}", status_code=204, summary="Unlock a user or an address now", tags=["security"]
)
async def release(services: Services, who: Who, name: str) -> None:
    who.require_write()
    guard = services.authenticator.guard
    names = dict.fromkeys((name, network_of(name), services.directory.login_key(name)))
    if not sum(guard.release(one) for one in names):  # each of them
        raise NotFound(f"“{name[:80]}” is not blocked")
    services.logs.security.write(f"{who}: unlocked {name}")
