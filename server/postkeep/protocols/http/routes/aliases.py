"""Aliases, and where an address leads (row ALI-1)."""

from typing import Annotated

from fastapi import APIRouter, Query

from postkeep.domain.account import Alias
from postkeep.domain.errors import NotFound
from postkeep.protocols.http.context import Services, Who
from postkeep.protocols.http.models import AliasChange, AliasChanged, AliasIn, AliasOut, CheckOut, Page
from postkeep.protocols.http.paging import Paged

router = APIRouter(prefix="/aliases", tags=["aliases"])


@router.get("", summary="All aliases that you may see")
async def aliases(
    services: Services,
    who: Who,
    paging: Paged,
    domain: Annotated[str, Query(max_length=255, description="only aliases of this domain")] = "",
) -> Page[AliasOut]:
    seen = (
        alias
        for alias in services.directory.aliases()
        if who.sees(alias.domain) and (not domain or alias.domain == domain.lower())
    )
    return paging.page(
        seen,
        lambda alias: (f"{alias.pattern}@{alias.domain}", alias.description, *alias.targets),
        ("pattern", "domain", "description"),
        AliasOut.of,
        "pattern",
    )


@router.post("", status_code=201, summary="Add an alias; its name may hold ? and *")
async def add_alias(services: Services, who: Who, body: AliasIn) -> AliasChanged:
    alias = Alias(body.pattern, body.domain, body.targets, body.description)
    added = await services.accounts.add_alias(who, alias, override=body.override)
    return AliasChanged.with_warnings(added, services.accounts.alias_warnings(added))


@router.get("/check", summary="Where mail to an address would go")
async def check_address(
    services: Services, who: Who, address: Annotated[str, Query(min_length=1, max_length=512)]
) -> CheckOut:
    parsed, resolution = services.accounts.check_address(address)
    domain = (services.directory.canonical(parsed) or "").rpartition("@")[2]
    if not who.sees(domain):
        raise NotFound(f"{parsed} is not an address of yours")
    return CheckOut(
        address=str(parsed),
        found=resolution.found,
        loop=resolution.loop,
        users=[account.key for account in resolution.accounts],
        remote=[str(target) for target in resolution.remote],
    )


@router.patch("/{domain}/{pattern}", summary="Change where an alias leads")
async def change_alias(
    services: Services, who: Who, domain: str, pattern: str, body: AliasChange
) -> AliasChanged:
    changes = body.model_dump(exclude_none=True)
    changed = await services.accounts.change_alias(who, pattern, domain, changes)
    return AliasChanged.with_warnings(changed, services.accounts.alias_warnings(changed))


@router.delete("/{domain}/{pattern}", status_code=204, summary="Remove an alias")
async def remove_alias(services: Services, who: Who, domain: str, pattern: str) -> None:
    await services.accounts.remove_alias(who, pattern, domain)
