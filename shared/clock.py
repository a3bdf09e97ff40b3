"""The clock as an argument, and the one text form of a time: ISO 8601 UTC with `Z`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; pure code receives a `datetime` instead."""

    def now(self) -> datetime:
        """The present instant, timezone-aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds of a clock that nobody can set: for durations, and for nothing else."""

    def sleep(self, seconds: float) -> None:
        """Return after at least `seconds`."""


class SystemClock:
    """The clock of this host."""

    def now(self) -> datetime:
        """The present instant in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since this host started, without those in which it slept."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for `seconds`."""
        time.sleep(seconds)


class AsOf:
    """A clock that says when something was read that is looked at now; else that of the host."""

    def __init__(self, clock: Clock, at: datetime) -> None:
        self._at = at
        self.monotonic, self.sleep = clock.monotonic, clock.sleep

    def now(self) -> datetime:
        """That instant."""
        return self._at


def format_utc(instant: datetime) -> str:
    """`2026-11-22T01:00:00Z`, with milliseconds only when there are any.

    Raises `ValueError` for a naive datetime: a time without a zone has no instant.
    """
    if instant.tzinfo is None:
        raise ValueError("a datetime without a time zone is not an instant")
    utc = instant.astimezone(UTC)
    text = utc.strftime("%Y-%m-%dT%H:%M:%S")
    milliseconds = utc.microsecond // 1000
    return f"{text}.{milliseconds:03d}Z" if milliseconds else f"{text}Z"


def parse_utc(text: str) -> datetime:
    """The instant that `format_utc` wrote; raises `ValueError` for any other form."""
    if not text.endswith("Z"):
        raise ValueError(f"not a UTC time with Z: {text!r}")
    instant = datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)
    if format_utc(instant) != text:
        raise ValueError(f"not a UTC time in the form of format_utc: {text!r}")
    return instant


def read_time(text: str) -> datetime:
    """The instant that a person typed, in UTC: ISO 8601, without a zone UTC is meant.

    Raises `ValueError`.
    """
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
