"""A resolver that is plain data."""

from collections.abc import Mapping, Sequence

from postkeep.runtime.resolver import NoSuchDomain, ResolverFailed


class FakeResolver:
    """Answers NXDOMAIN unless told otherwise.

    FakeResolver(mx={"a.test": [(10, "mx.a.test")]}, addresses={"mx.a.test": ["127.0.0.1"]}, failing={"b.test"})
    A name that stands in any table exists: what it lacks is [].
    """

    def __init__(
        self,
        mx: Mapping[str, Sequence[tuple[int, str]]] | None = None,
        addresses: Mapping[str, Sequence[str]] | None = None,
        txt: Mapping[str, Sequence[str]] | None = None,
        ptr: Mapping[str, Sequence[str]] | None = None,
        failing: Sequence[str] | set[str] = (),
    ) -> None:
        self.tables: dict[str, dict[str, Sequence[object]]] = {
            "mx": dict(mx or {}),
            "addresses": dict(addresses or {}),
            "txt": dict(txt or {}),
            "ptr": dict(ptr or {}),
        }
        self.failing = set(failing)
        self.asked: list[tuple[str, str]] = []

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        return self._answer("mx", domain)  # type: ignore[return-value]

    async def addresses(self, host: str) -> list[str]:
        return self._answer("addresses", host)  # type: ignore[return-value]

    async def txt(self, name: str) -> list[str]:
        return self._answer("txt", name)  # type: ignore[return-value]

    async def ptr(self, address: str) -> list[str]:
        return self._answer("ptr", address)  # type: ignore[return-value]

    def _answer(self, kind: str, name: str) -> list[object]:
        self.asked.append((kind, name))
        if name in self.failing:
            raise ResolverFailed(f"the name server failed to answer about {name}")
        if not any(name in table for table in self.tables.values()):
            raise NoSuchDomain(f"the domain {name} does not exist")
        return list(self.tables[kind].get(name, []))
