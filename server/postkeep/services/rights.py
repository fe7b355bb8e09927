"""Who may administer what (rows ADM-1, ADM-3)."""

from typing import NamedTuple

from postkeep.domain.account import Account, Rights
from postkeep.domain.errors import Denied

_RANK = {Rights.NONE: 0, Rights.DOMAIN: 1, Rights.READ: 2, Rights.WRITE: 3}


class Administrator(NamedTuple):
    """Who acts. `key` is the account's, "" for the machine's own root through the command line."""

    key: str
    rights: Rights
    domain: str

    def __str__(self) -> str:
        return self.key or "command line"

    def require_read(self) -> None:
        """May see the whole server."""
        if _RANK[self.rights] < _RANK[Rights.READ]:
            raise Denied("you may not see settings of the whole server")

    def require_write(self) -> None:
        """May change the whole server."""
        if self.rights is not Rights.WRITE:
            raise Denied("you may not change settings of the whole server")

    def sees(self, domain: str) -> bool:
        """May see users and aliases of `domain`."""
        return _RANK[self.rights] >= _RANK[Rights.READ] or (
            self.rights is Rights.DOMAIN and domain == self.domain
        )

    def require_domain(self, domain: str) -> None:
        """May change users and aliases of `domain`."""
        if self.rights is Rights.WRITE or (self.rights is Rights.DOMAIN and domain == self.domain):
            return
        raise Denied(f"you may not change users and aliases of {domain}")

    def require_over(self, account: Account) -> None:
        """May change this account: nobody changes one above them (ADM-3)."""
        self.require_domain(account.domain)
        if _RANK[account.rights] > _RANK[self.rights]:
            raise Denied(f"{account.key} has more rights than you")

    def require_rank(self, account: Account) -> None:
        """May take mail from this account, in whatever domain it is (ADM-3)."""
        if _RANK[account.rights] > _RANK[self.rights]:
            raise Denied(f"this address belongs to {account.key}, who has more rights than you")

    def require_grant(self, rights: Rights) -> None:
        """May give these rights."""
        if _RANK[rights] > _RANK[self.rights]:
            raise Denied("you may not give more rights than you have")

    def require_other(self, account: Account, what: str) -> None:
        """Nobody disables, deletes or demotes themself (ADM-3)."""
        if self.key and account.key == self.key:
            raise Denied(f"you cannot {what} your own account")


ROOT = Administrator("", Rights.WRITE, "")
"""The command line, through the Unix socket that only the engine's own user and root can open."""


def administrator(account: Account) -> Administrator:
    """Raises Denied when the account may administer nothing."""
    if account.rights is Rights.NONE:
        raise Denied("this account has no administration rights")
    return Administrator(account.key, account.rights, account.domain)


def is_demotion(old: Rights, new: Rights) -> bool:
    return _RANK[new] < _RANK[old]
