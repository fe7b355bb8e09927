"""Where properties come from: OVF environment by the hypervisor, its CD, plain guestinfo variables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from postkeep_appliance.guestinfo import environment
from postkeep_appliance.guestinfo.cdrom import BadMedium, EnvironmentCd
from postkeep_appliance.guestinfo.declarations import Declaration
from postkeep_appliance.guestinfo.environment import BadEnvironment
from postkeep_appliance.guestinfo.properties import Said, check
from postkeep_appliance.guestinfo.rpctool import VALUE_LIMIT, RpcRefused, RpcTool, RpcUnavailable
from postkeep_appliance.guestinfo.values import Reader, is_unset

_OVF_KEY = "guestinfo.ovfEnv"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Texts:
    """Of one source: values as they came, by full keys."""

    values: Mapping[str, str]
    repeated: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Texts(<{len(self.values)} values>)"


NOTHING = Texts({})


class Unreadable(Exception):
    """A source has something, but nothing can be made of it. No secret in the text."""


class Source(Protocol):
    """`title` is for people."""

    title: str

    def read(self) -> Texts:
        """NOTHING where there is none. Raises Unreadable."""

    def wipe(self, secrets: Sequence[str]) -> str:
        """Take the values of these keys away; "" when none is left there, else what the reader should do."""


class OvfVariable:
    """The OVF environment that the hypervisor gives on request (transport com.vmware.guestInfo)."""

    title = "OVF environment"

    def __init__(self, tool: RpcTool) -> None:
        self._tool = tool

    def read(self) -> Texts:
        document = self._document()
        return _texts(document) if document else NOTHING

    def wipe(self, secrets: Sequence[str]) -> str:
        try:
            document = self._document()
            if not document or not _may_hold(document, secrets):
                return ""
            self._tool.put(_OVF_KEY, _cleaned(document, secrets).decode())
            left = _may_hold(self._document(), secrets)
        except (RpcRefused, RpcUnavailable, ValueError, Unreadable):
            left = True
        return "remove the passwords from the virtual machine's vApp options" if left else ""

    def _document(self) -> bytes:
        try:
            found = self._tool.get(_OVF_KEY) or b""
            return found if found.strip(b" \t\r\n\0") else b""
        except RpcUnavailable:
            return b""
        except RpcRefused as error:
            raise Unreadable(f"the hypervisor refuses it: {error}") from error


class OvfCd:
    """The same on a CD (transport iso)."""

    title = "CD “OVF ENV”"

    def __init__(self, cd: EnvironmentCd) -> None:
        self._cd = cd

    def read(self) -> Texts:
        try:
            document = self._cd.read()
        except BadMedium as error:
            raise Unreadable(str(error)) from error
        return NOTHING if document is None else _texts(document)

    def wipe(self, secrets: Sequence[str]) -> str:
        try:
            document = self._cd.read()
            left = document is not None and _may_hold(document, secrets)
        except BadMedium:
            left = True
        if not left or self._cd.eject():
            return ""
        return "disconnect the virtual CD drive: its disc holds passwords"


class PlainVariables:
    """guestinfo.postkeep.* set as advanced parameters of the virtual machine."""

    title = "guestinfo variables"

    def __init__(self, tool: RpcTool, declarations: Mapping[str, Declaration]) -> None:
        self._tool = tool
        self._declarations = declarations

    def read(self) -> Texts:
        found = {}
        for key in self._declarations:
            try:
                value = self._tool.get(key)
            except RpcUnavailable:
                return NOTHING
            except RpcRefused as error:
                raise Unreadable(f"the hypervisor refuses {key}: {error}") from error
            if value is not None:
                found[key] = value.decode("utf-8", "replace")
        return Texts(found)

    def wipe(self, secrets: Sequence[str]) -> str:
        left = []
        for key in secrets:
            try:
                if is_unset((self._tool.get(key) or b"").decode("utf-8", "replace")):
                    continue
                self._tool.put(key, "")
            except RpcUnavailable:
                return ""
            except RpcRefused:
                left.append(key)
        return f"remove {', '.join(left)} from the virtual machine's parameters" if left else ""


def read_all(
    sources: Sequence[Source], declarations: Mapping[str, Declaration], reader: Reader, say: Say
) -> tuple[Said, tuple[str, ...]]:
    """What all sources say together, the first that sets a property wins; and what could not be read at all.

    `say` gets a line of progress for each source that has something: names, never values.
    """
    texts: dict[str, str] = {}
    repeated: set[str] = set()
    trouble = []
    for source in sources:
        try:
            found = source.read()
        except Unreadable as error:
            trouble.append(f"{source.title}: {error}")
            continue
        new = {key: text for key, text in found.values.items() if key not in texts and not is_unset(text)}
        texts |= new
        repeated |= found.repeated & new.keys()
        ours = sorted(declarations[key].name for key in new if key in declarations)
        if ours:
            say(f"{source.title} sets {', '.join(ours)}")
    return check(texts, declarations, reader, repeated), tuple(trouble)


def wipe_all(sources: Sequence[Source], declarations: Mapping[str, Declaration]) -> tuple[str, ...]:
    """Take secrets out of every source. What is left, as advice for the administrator."""
    secrets = [key for key, declaration in declarations.items() if declaration.secret]
    return tuple(advice for source in sources if (advice := source.wipe(secrets)))


def _texts(document: bytes) -> Texts:
    try:
        found = environment.read(document)
    except BadEnvironment as error:
        raise Unreadable(str(error)) from error
    return Texts(found.properties, found.repeated)


def _may_hold(document: bytes, secrets: Sequence[str]) -> bool:
    """A document that cannot be read may: its writer meant to say something."""
    try:
        return bool(document) and environment.holds(document, secrets)
    except BadEnvironment:
        return True


def _cleaned(document: bytes, secrets: Sequence[str]) -> bytes:
    try:
        cleaned = environment.without(document, secrets)
    except BadEnvironment:
        return environment.empty()
    return cleaned if len(cleaned) <= VALUE_LIMIT else environment.empty()
