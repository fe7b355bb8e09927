"""What REST requests and answers look like. Unknown members are refused."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from postkeep.domain.account import Account, Alias, Domain, Rights

T = TypeVar("T")
Text = Annotated[str, Field(max_length=1_024)]
Name = Annotated[str, Field(min_length=1, max_length=320)]
Names = Annotated[tuple[Name, ...], Field(max_length=1_000)]
Targets = Annotated[tuple[Name, ...], Field(max_length=10_000)]
Password = Annotated[str, Field(min_length=1, max_length=1_024)]
Count = Annotated[int, Field(ge=0, lt=1 << 60)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Page(BaseModel, Generic[T]):
    """A part of a list: `total` items match, `items` begin at `offset`."""

    total: int
    offset: int
    items: list[T]


class SetupState(_Model):
    configured: bool
    product: str
    version: str


class LoginRequest(_Model):
    user: Name
    password: Password


class SessionOut(_Model):
    token: str
    user: str
    rights: Rights
    seconds: int


class WhoOut(_Model):
    user: str
    rights: Rights
    domain: str


class DomainIn(_Model):
    name: Name
    description: Text = ""
    aliases: Names = ()
    primary: bool = False
    max_message_size: Count = 0


class DomainChange(_Model):
    description: Text | None = None
    aliases: Names | None = None
    primary: bool | None = None
    max_message_size: Count | None = None


class DomainOut(_Model):
    name: str
    primary: bool
    description: str
    aliases: tuple[str, ...]
    max_message_size: int
    users: int

    @classmethod
    def of(cls, domain: Domain, users: int) -> "DomainOut":
        return cls(
            name=domain.name,
            primary=domain.primary,
            description=domain.description,
            aliases=domain.aliases,
            max_message_size=domain.max_message_size,
            users=users,
        )


class UserIn(_Model):
    name: Name
    domain: Annotated[str, Field(max_length=255)] = ""
    password: Password | None = None
    password_hash: Annotated[str, Field(max_length=512)] = ""
    full_name: Text = ""
    description: Text = ""
    enabled: bool = True
    rights: Rights = Rights.NONE
    aliases: Names = ()
    forwards: Names = ()
    keep_copy: bool = True
    quota_bytes: Count = 0
    quota_items: Count = 0


class UsersIn(_Model):
    users: Annotated[list[UserIn], Field(min_length=1, max_length=20_000)]


class UserChange(_Model):
    full_name: Text | None = None
    description: Text | None = None
    enabled: bool | None = None
    rights: Rights | None = None
    aliases: Names | None = None
    forwards: Names | None = None
    keep_copy: bool | None = None
    quota_bytes: Count | None = None
    quota_items: Count | None = None


class PasswordIn(_Model):
    password: Password


class UserOut(_Model):
    """`address` is the user's main address; `used_*` what the mailboxes hold; `locked`: see SRV-4."""

    name: str
    domain: str
    address: str
    full_name: str
    description: str
    enabled: bool
    locked: bool
    rights: Rights
    aliases: tuple[str, ...]
    forwards: tuple[str, ...]
    keep_copy: bool
    quota_bytes: int
    quota_items: int
    used_bytes: int
    used_items: int

    @classmethod
    def of(cls, account: Account, used: tuple[int, int], locked: bool) -> "UserOut":
        return cls(
            name=account.name,
            domain=account.domain,
            address=account.key,
            full_name=account.full_name,
            description=account.description,
            enabled=account.enabled,
            locked=locked,
            rights=account.rights,
            aliases=account.aliases,
            forwards=account.forwards,
            keep_copy=account.keep_copy,
            quota_bytes=account.quota_bytes,
            quota_items=account.quota_items,
            used_bytes=used[0],
            used_items=used[1],
        )


class UsersAdded(_Model):
    added: int


class AliasIn(_Model):
    pattern: Name
    domain: Annotated[str, Field(max_length=255)] = ""
    targets: Targets
    description: Text = ""
    override: bool = False
    """Take all mail of the user of this name."""


class AliasChange(_Model):
    targets: Targets | None = None
    description: Text | None = None


class AliasOut(_Model):
    pattern: str
    domain: str
    targets: tuple[str, ...]
    description: str

    @classmethod
    def of(cls, alias: Alias) -> "AliasOut":
        return cls(
            pattern=alias.pattern, domain=alias.domain, targets=alias.targets, description=alias.description
        )


class AliasChanged(AliasOut):
    """An alias as it is now; `warnings` tell of targets that mail does not get to."""

    warnings: list[str]

    @classmethod
    def with_warnings(cls, alias: Alias, warnings: list[str]) -> "AliasChanged":
        return cls(**AliasOut.of(alias).model_dump(), warnings=warnings)


class CheckOut(_Model):
    """Where mail to an address goes: `users` here, `remote` addresses elsewhere; neither: it is refused.

    `loop`: aliases lead in a circle."""

    address: str
    found: bool
    loop: bool
    users: list[str]
    remote: list[str]


class QueueOut(_Model):
    id: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    created: float
    next_try: float | None
    in_process: bool
    tries: int
    last_reply: str


class ServiceOut(_Model):
    name: str
    title: str
    tls: bool
    running: bool
    listening: list[str]
    configured: list[str]
    failure: str


class SettingOut(_Model):
    """A setting as declared, with its value. A secret one never shows it: only whether it is set."""

    section: str
    variable: str
    value: bool | int | float | str | list[str]
    default: bool | int | float | str | list[str]
    type: str
    choices: list[str]
    unit: str
    minimum: int | None
    maximum: int | None
    secret: bool
    help: str
    keywords: str


class SettingsChanged(_Model):
    changed: list[str]
    restart_needed: bool


class BlockOut(_Model):
    name: str
    service: str
    seconds: int


class LogLines(_Model):
    name: str
    lines: list[str]
