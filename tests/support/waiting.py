"""`eventually`: waiting on a condition, with a deadline, where a test would else sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SECONDS_BETWEEN_LOOKS = 0.05


def eventually(look: Callable[[], T | None], what: str, *, seconds: float = 60) -> T:
    """The first answer of `look` that is true.

    Raises `AssertionError` that names `what` was waited for, and the last answer, when
    `seconds` have passed without one.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{seconds:.0f} s passed without: {what} (last: {found!r})")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
