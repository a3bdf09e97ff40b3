"""`Budgets`: when Meta may be asked again, of the app and of each Page; and two calls a second.

Source: developers.facebook.com/docs/graph-api/overview/rate-limiting, and for the two calls a
second of a Page the rate limits of the Conversations API. Which time of which header:
`X-Business-Use-Case-Usage` says in how many minutes; `Retry-After` in how many seconds; the usage
headers say how many per cent of an hour's budget are used up.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shared.clock import Clock
from shared.merchants.errors import PlatformBusy
from shared.merchants.http_client import Answer

APP = ""  # the budget that the calls of all Pages share

_APP_CODES = (4, 341)
_OTHER_CODES = (17, 32, 613)
_BUSINESS_CODES = range(80_000, 80_015)

_FULL_PERCENT = 95
_SECONDS_WHEN_FULL = 300.0
_SECONDS_UNKNOWN = 900.0
_LONGEST_SECONDS = 24 * 3600.0
_SECONDS_BETWEEN_CALLS = 0.5
_USAGE = ("call_count", "total_cputime", "total_time")


@dataclass(frozen=True)
class Limit:
    """Meta wants no calls for so many seconds, of the whole app or of a Page."""

    of_app: bool
    seconds: float


def limit_of_refusal(code: int | None, answer: Answer) -> Limit | None:
    """What a refusal says about limits; None when it is about something else. Pure."""
    known = code in (*_APP_CODES, *_OTHER_CODES) or code in _BUSINESS_CODES
    if not known and answer.status != 429:
        return None
    told = answer.retry_after()
    seconds = told if told is not None else _regained_in(answer) or _SECONDS_UNKNOWN
    return Limit(code in _APP_CODES, min(seconds, _LONGEST_SECONDS))


class Budgets:
    """Kept by this process; what another one knows, it learns by one refusal. Thread-safe."""

    def __init__(self, clock: Clock, pause: Callable[[float], None]) -> None:
        self._clock = clock
        self._pause = pause
        self._closed_until: dict[str, float] = {}
        self._answered_at: dict[str, float] = {}
        self._pacing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def check(self, page: str | None) -> None:
        """Raise `PlatformBusy` while the app's or this Page's time has not come."""
        now = self._clock.monotonic()
        for name, whose in ((APP, "the app"), (page, f"the Page {page}")):
            wait = self._closed_until.get(name or APP, 0.0) - now
            if wait > 0:
                raise PlatformBusy(
                    f"Meta limits the calls of {whose} for another {round(wait / 60)} minutes",
                    "The app will retry.",
                    wait,
                )

    def close(self, page: str | None, limit: Limit) -> None:
        """Have nothing asked until the limit is over."""
        name = APP if limit.of_app or page is None else page
        until = self._clock.monotonic() + limit.seconds
        self._closed_until[name] = max(until, self._closed_until.get(name, 0.0))

    def note(self, page: str | None, answer: Answer) -> None:
        """Stop in time: what the usage headers of an answer say, whatever else it is."""
        if _percent(_header(answer, "x-app-usage")) >= _FULL_PERCENT:
            self.close(None, Limit(True, _SECONDS_WHEN_FULL))
        seconds = _regained_in(answer)
        used = max(_percent(one) for one in (_header(answer, "x-page-usage"), *_cases(answer)))
        if used >= _FULL_PERCENT:
            seconds = max(seconds, _SECONDS_WHEN_FULL)
        if seconds > 0:
            self.close(page, Limit(False, min(seconds, _LONGEST_SECONDS)))

    @contextmanager
    def paced(self, page: str) -> Iterator[None]:
        """One call of the Conversations API: half a second after the one before was answered."""
        with self._pacing[page]:
            since = self._clock.monotonic() - self._answered_at.get(page, float("-inf"))
            if since < _SECONDS_BETWEEN_CALLS:
                self._pause(_SECONDS_BETWEEN_CALLS - since)
            try:
                yield
            finally:
                self._answered_at[page] = self._clock.monotonic()


def _regained_in(answer: Answer) -> float:
    """Seconds until access is regained, as the header about business use cases says; else 0."""
    return 60 * max(
        (_number(case, "estimated_time_to_regain_access") for case in _cases(answer)), default=0.0
    )


def _cases(answer: Answer) -> list[Any]:
    found = _header(answer, "x-business-use-case-usage")
    lists = found.values() if isinstance(found, dict) else ()
    return [case for cases in lists if isinstance(cases, list) for case in cases]


def _percent(usage: Any) -> float:
    return max(_number(usage, name) for name in _USAGE)


def _number(document: Any, name: str) -> float:
    value = document.get(name) if isinstance(document, dict) else None
    return float(value) if isinstance(value, int | float) and 0 <= value < 10**6 else 0.0


def _header(answer: Answer, name: str) -> Any:
    try:
        return json.loads(answer.headers.get(name, "{}"))
    except (ValueError, RecursionError):
        return {}
