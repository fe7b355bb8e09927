"""What a deployment may say: ovf/properties.toml, as the OVF and the documentation have it too."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Literal, cast

Kind = Literal[
    "hostname",
    "address",
    "netmask",
    "address-list",
    "host-list",
    "password",
    "ssh-key",
    "domain",
    "user",
    "time-zone",
    "boolean",
    "language",
]
Use = Literal["needed", "access", "optional"]
PREFIX = "guestinfo.postkeep."
_VALUE_MAP = re.compile(r"ValueMap\{([^}]*)\}")
_LENGTH = re.compile(r"MaxLen\((\d+)\)")
_DEFAULT_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Declaration:
    """One property. `key` with PREFIX, `name` without; `choices` empty unless it is one of a few words."""

    key: str
    kind: Kind
    label: str
    default: str
    secret: bool
    use: Use
    choices: tuple[str, ...]
    length: int
    """Characters, at most."""

    @property
    def name(self) -> str:
        return self.key.removeprefix(PREFIX)


def parse(text: str) -> Mapping[str, Declaration]:
    """Declarations of properties.toml by their keys."""
    found = {}
    for one in tomllib.loads(text)["property"]:
        choices = _VALUE_MAP.search(one["qualifiers"])
        length = _LENGTH.search(one["qualifiers"])
        found[one["key"]] = Declaration(
            key=one["key"],
            kind=cast(Kind, one["type"]),
            label=one["label"],
            default=one["default"],
            secret=one["secret"],
            use=cast(Use, one["unattended"]),
            choices=tuple(re.findall(r'"([^"]*)"', choices[1])) if choices else (),
            length=int(length[1]) if length else _DEFAULT_LENGTH,
        )
    return found


def load() -> Mapping[str, Declaration]:
    """Those that this package was built with."""
    return parse(resources.files("postkeep_appliance").joinpath("properties.toml").read_text("utf-8"))
