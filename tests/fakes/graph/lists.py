"""Lists with cursors: one page of results and the way to the next."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from tests.fakes.asked import Asked, Json
from tests.fakes.graph.errors import GraphError
from tests.fakes.graph.state import VERSION, World

T = TypeVar("T")

USUAL_LIMIT = 25
HIGHEST_LIMIT = 100
_SECOND_LOOK = "/again"  # the cursor behind the empty page


def one_page(
    world: World,
    asked: Asked,
    path: str,
    everything: Sequence[T],
    key: Callable[[T], str],
    show: Callable[[T], Json],
    *,
    limit: int | None = None,
) -> Json:
    """`data` and `paging` of the page that `after` and `limit` name.

    `paging.next` is absolute and carries the access token, but, as on the platform, no
    `appsecret_proof`: whoever follows it has to add that.
    """
    wanted = limit or _limit(asked)
    size = min(world.paging.size or HIGHEST_LIMIT, wanted)
    start, looked_twice = _start(asked, [key(one) for one in everything])
    pages_before = start // size
    shown = list(everything[start : start + size])
    empty = world.paging.empty_page_after == pages_before and start > 0 and not looked_twice
    if empty:
        shown = []
        after = _cursor(key(everything[start - 1]) + _SECOND_LOOK)
    elif shown:
        after = _cursor(key(shown[-1]))
    else:
        return {"data": []}
    paging: Json = {
        "cursors": {"before": _cursor(key(shown[0])) if shown else after, "after": after}
    }
    if empty or start + size < len(everything) or world.paging.endless:
        if world.paging.endless:
            after = asked.arguments.get("after", after)
        paging["next"] = _next(world, asked, path, wanted, after)
    return {"data": [show(one) for one in shown], "paging": paging}


def _limit(asked: Asked) -> int:
    given = str(asked.arguments.get("limit", USUAL_LIMIT))
    if not given.isdigit() or int(given) < 1:
        raise GraphError(100, "(#100) Param limit must be a positive number")
    return min(int(given), HIGHEST_LIMIT)


def _start(asked: Asked, keys: list[str]) -> tuple[int, bool]:
    after = asked.arguments.get("after")
    if not after:
        return 0, False
    try:
        key = base64.urlsafe_b64decode(str(after)).decode()
        return keys.index(key.removesuffix(_SECOND_LOOK)) + 1, key.endswith(_SECOND_LOOK)
    except ValueError:
        raise GraphError(100, "(#100) Invalid cursors values") from None


def _cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _next(world: World, asked: Asked, path: str, limit: int, after: str) -> str:
    kept = {
        name: str(value)
        for name, value in asked.arguments.items()
        if name not in ("appsecret_proof", "after", "limit")
    }
    token = asked.headers.get("authorization", "").partition(" ")[2].strip()
    if token and "access_token" not in kept:
        kept["access_token"] = token
    query = urlencode({**kept, "limit": limit, "after": after})
    return f"{world.paging.next_host or world.base_url}/{VERSION}/{path}?{query}"
