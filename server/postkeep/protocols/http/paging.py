"""Lists in parts: ?search=&sort=&offset=&limit= (`sort=-name`: the other way round)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query

from postkeep.domain.errors import InvalidName
from postkeep.protocols.http.models import Page

T = TypeVar("T")
U = TypeVar("U")
LIMIT = 1_000


class Paging:
    """The query parameters of every list."""

    def __init__(
        self,
        search: Annotated[str, Query(max_length=200, description="only items that hold this text")] = "",
        sort: Annotated[
            str, Query(max_length=40, description="member to sort by, - before it: descending")
        ] = "",
        offset: Annotated[int, Query(ge=0, le=1 << 40)] = 0,
        limit: Annotated[int, Query(ge=1, le=LIMIT)] = 100,
    ) -> None:
        self.search = search.casefold()
        self.sort = sort
        self.offset = offset
        self.limit = limit

    def page(
        self,
        items: Iterable[T],
        texts: Callable[[T], Iterable[str]],
        keys: Sequence[str],
        show: Callable[[T], U],
        default: str,
    ) -> Page[U]:
        """Search in what `texts` gives, sort by one of `keys` (attributes), show the part asked for."""
        if self.search:
            items = (one for one in items if any(self.search in text.casefold() for text in texts(one)))
        name = self.sort.removeprefix("-") or default
        if name not in keys:
            raise InvalidName(f"sort takes one of: {', '.join(keys)}")
        ordered = sorted(items, key=lambda one: _key(one, name), reverse=self.sort.startswith("-"))
        part = ordered[self.offset : self.offset + self.limit]
        return Page(total=len(ordered), offset=self.offset, items=[show(one) for one in part])


def _key(item: Any, name: str) -> tuple[bool, Any]:
    """None sorts last."""
    value = getattr(item, name)
    return value is None, 0 if value is None else value.casefold() if isinstance(value, str) else value


Paged = Annotated[Paging, Depends(Paging)]
