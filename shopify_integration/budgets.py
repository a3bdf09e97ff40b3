"""`Budgets`: when a shop may be asked again, by what it said, and by the points that it has left.

Source: shopify.dev, "GraphQL Admin API rate limits". A query runs while the bucket of its shop has
the points that it requests; what it did not use is refunded. Each answer says what is left
(`extensions.cost`), so that the next query is sent when there is enough for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shared.clock import Clock
from shared.merchants.errors import PlatformBusy
from shared.merchants.http_client import most_seconds_to_wait

# A longer wait is somebody else's: the poll is made up for.
_LONGEST_SECONDS = 60.0
_MOST_POINTS = 10.0**7


@dataclass(frozen=True)
class Cost:
    """What an answer says, in points: what its query requested, and the bucket after it."""

    requested: float
    available: float
    most: float
    a_second: float

    @property
    def wait(self) -> float:
        """Seconds until there are points enough for the same query."""
        return max((min(self.requested, self.most) - self.available) / self.a_second, 0.0)


def cost_of(document: Mapping[str, Any]) -> Cost | None:
    """The cost in an answer; None where it says nothing that can be counted with. Pure."""
    try:
        cost = document["extensions"]["cost"]
        status = cost["throttleStatus"]
        found = Cost(
            float(cost["requestedQueryCost"]),
            float(status["currentlyAvailable"]),
            float(status["maximumAvailable"]),
            float(status["restoreRate"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    counts = 0 < found.requested < _MOST_POINTS and 0 < found.most < _MOST_POINTS
    restores = 0 < found.a_second < _MOST_POINTS
    return found if counts and restores and 0 <= found.available <= found.most else None


@dataclass
class _Bucket:
    """The points of a shop, `at` a time of the monotonic clock; less than 0 is promised."""

    available: float
    most: float
    a_second: float
    at: float

    def fill(self, now: float) -> None:
        """What was restored since."""
        self.available = min(self.available + (now - self.at) * self.a_second, self.most)
        self.at = now


class Budgets:
    """Kept by this process; what another one spends, the next answer says. Thread-safe."""

    def __init__(self, clock: Clock, pause: Callable[[float], None]) -> None:
        self._clock = clock
        self._pause = pause
        self._lock = threading.Lock()
        self._closed_until: dict[str, float] = {}  # by shop
        self._buckets: dict[str, _Bucket] = {}  # by shop
        self._requested: dict[str, float] = {}  # by query

    def close(self, shop: str, seconds: float) -> None:
        """Have nothing asked of a shop for so long."""
        until = self._clock.monotonic() + seconds
        self._closed_until[shop] = max(until, self._closed_until.get(shop, 0.0))

    def check(self, shop: str) -> None:
        """Raise `PlatformBusy` before the time that a shop has named."""
        wait = self._closed_until.get(shop, 0.0) - self._clock.monotonic()
        if wait > 0:
            raise _busy(shop, wait)

    @contextmanager
    def spending(self, shop: str, query: str) -> Iterator[None]:
        """One request with a query, when there are points for it; `note` its answer afterwards.

        Waits for them, or raises `PlatformBusy` where that takes long. A request that fails in
        this block has cost nothing.
        """
        points = self._requested.get(query, 0.0)
        with self._lock:
            bucket = self._buckets.get(shop)
            wait = self._promise(shop, bucket, points) if bucket else 0.0
        try:
            if wait > 0:
                self._pause(wait)
            yield
        except BaseException:
            if bucket:
                with self._lock:
                    bucket.available += points
            raise

    def note(self, shop: str, query: str, cost: Cost | None) -> None:
        """What the answer to a query said."""
        if cost is None:
            return
        with self._lock:
            self._requested[query] = cost.requested
            now = self._clock.monotonic()
            self._buckets[shop] = _Bucket(cost.available, cost.most, cost.a_second, now)

    def _promise(self, shop: str, bucket: _Bucket, points: float) -> float:
        """Take points, which may come later; seconds until they are there."""
        bucket.fill(self._clock.monotonic())
        wait = Cost(points, bucket.available, bucket.most, bucket.a_second).wait
        if wait > min(_LONGEST_SECONDS, most_seconds_to_wait()):
            raise _busy(shop, wait)
        bucket.available -= points
        return wait


def _busy(shop: str, wait: float) -> PlatformBusy:
    return PlatformBusy(
        f"{shop} wants no requests for another {round(wait)} s", "The app will retry.", wait
    )
