"""Domains (rows DOM-1, DOM-2)."""

from collections import Counter

from fastapi import APIRouter

from postkeep.domain.account import Domain
from postkeep.domain.address import parse_domain
from postkeep.domain.errors import NotFound
from postkeep.protocols.http.context import ApiServices, Services, Who
from postkeep.protocols.http.models import DomainChange, DomainIn, DomainOut, Page
from postkeep.protocols.http.paging import Paged

router = APIRouter(prefix="/domains", tags=["domains"])


def _users(services: ApiServices) -> Counter[str]:
    return Counter(account.domain for account in services.directory.accounts())


@router.get("", summary="All domains that you may see")
async def domains(services: Services, who: Who, paging: Paged) -> Page[DomainOut]:
    users = _users(services)
    seen = [domain for domain in services.directory.domains() if who.sees(domain.name)]
    return paging.page(
        seen,
        lambda domain: (domain.name, domain.description, *domain.aliases),
        ("name", "description", "primary", "max_message_size"),
        lambda domain: DomainOut.of(domain, users[domain.name]),
        "name",
    )


@router.post("", status_code=201, summary="Add a domain")
async def add_domain(services: Services, who: Who, body: DomainIn) -> DomainOut:
    domain = Domain(body.name, body.primary, body.description, body.aliases, body.max_message_size)
    return DomainOut.of(await services.accounts.add_domain(who, domain), 0)


@router.get("/{name}", summary="One domain")
async def domain(services: Services, who: Who, name: str) -> DomainOut:
    found = services.directory.domain(parse_domain(name))
    if found is None or not who.sees(found.name):
        raise NotFound(f"there is no domain {name[:80]}")
    return DomainOut.of(found, _users(services)[found.name])


@router.patch("/{name}", summary="Change a domain; primary: true makes it the primary one")
async def change_domain(services: Services, who: Who, name: str, body: DomainChange) -> DomainOut:
    changed = await services.accounts.change_domain(who, name, body.model_dump(exclude_none=True))
    return DomainOut.of(changed, _users(services)[changed.name])


@router.delete(
    "/{name}", status_code=204, summary="Remove a domain that is not primary, without users or aliases"
)
async def remove_domain(services: Services, who: Who, name: str) -> None:
    await services.accounts.remove_domain(who, name)
