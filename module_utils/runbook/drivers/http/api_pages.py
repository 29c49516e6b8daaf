"""How services hand over a long list, page by page.

Each function here makes one way of it: from a page, the query that asks for the next one, None after the last. A page
from which that cannot be told raises ``ValueError``, for a list that ends too early looks whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

#: Names and values of a query, in order.
Query = tuple[tuple[str, str], ...]

#: No list that this project reads is longer.
MAX_PAGES = 1000


@dataclass(frozen=True)
class Page:
    """One answer: its JSON, the items in it, its headers in lower case, and the query that asked for it."""

    body: Any
    items: list[Any]
    headers: Mapping[str, str]
    query: Query


Follow = Callable[[Page], Query | None]


def by_link(page: Page) -> Query | None:
    """The header ``Link`` has an address with ``rel="next"`` (RFC 8288), as GitHub's.

    Only its query is used: whatever address it names, the next page is asked for where the first one was.
    """
    for link, more in re.findall(r"<([^>]*)>([^<]*)", page.headers.get("link", "")):
        if re.search(r';\s*rel="?([^";]* )?next\b', more, re.IGNORECASE):
            return tuple(parse_qsl(urlsplit(link).query, keep_blank_values=True))
    return None


def by_cursor(*path: str, parameter: str) -> Follow:
    """A field of the answer says where to go on, null at the end, as Vercel's ``pagination.next``.

    :param path: names that lead to the field
    :param parameter: of the query that takes it
    """

    def follow(page: Page) -> Query | None:
        value = page.body
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                raise ValueError(f"no field {'.'.join(path)}")
            value = value[name]
        return None if value in (None, "") else _with(page.query, parameter, str(value))

    return follow


def by_next(page: Page) -> Query | None:
    """``next`` has the address of the next page, null after the last one, as AWX's. Only its query is used."""
    if not isinstance(page.body, Mapping) or "next" not in page.body:
        raise ValueError("no field next")
    address = page.body["next"]
    return tuple(parse_qsl(urlsplit(str(address)).query, keep_blank_values=True)) if address else None


def by_offset(page: Page) -> Query | None:
    """``more`` says whether there are more, and ``offset`` counts items, as PagerDuty's."""
    more = page.body.get("more") if isinstance(page.body, Mapping) else None
    if more is False:
        return None
    if more is not True:
        raise ValueError("no field more")
    if not page.items:
        raise ValueError("more to come, and none of it")
    return _with(page.query, "offset", str(int(dict(page.query).get("offset", "0")) + len(page.items)))


def by_number(page: Page) -> Query | None:
    """``page`` counts pages from 1, as Statuspage's. It ends with a page without items, as one may be short."""
    return _with(page.query, "page", str(int(dict(page.query).get("page", "1")) + 1)) if page.items else None


def _with(query: Query, name: str, value: str) -> Query:
    return (*(pair for pair in query if pair[0] != name), (name, value))
