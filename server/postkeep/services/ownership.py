"""Whose mail an address is: who takes an address from somebody must be above them (row ADM-3). Pure."""

from collections.abc import Iterable, Iterator

from postkeep.domain.account import Account
from postkeep.services import validation
from postkeep.services.configuration import State
from postkeep.services.directory import POSTMASTER, first_administrator
from postkeep.services.rights import Administrator


def require_names(who: Administrator, state: State, domain: str, names: Iterable[str]) -> None:
    """`who` may say where mail to these local parts of `domain` goes. Raises Denied.

    An alias beats a user's name, so it takes that user's mail, and gives its targets the right to send as
    that user. Wildcards need no look: the directory lets every name, postmaster included, go before them.
    """
    for name in names:
        for owner in _owners(state, name, domain):
            who.require_rank(owner)


def _owners(state: State, name: str, domain: str) -> Iterator[Account]:
    """Who gets mail for name@domain when no alias has that name."""
    key = f"{name}@{domain}"
    found = [one for one in state.users.accounts.values() if one.domain == domain and name in one.aliases]
    if key in state.users.accounts:
        found.append(state.users.accounts[key])
    yield from found
    if not found and name == POSTMASTER:
        holder = first_administrator(state.users.accounts.values(), validation.primary_domain(state))
        if holder is not None:
            yield holder
