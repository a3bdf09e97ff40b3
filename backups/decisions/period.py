"""Which time a person means by a period. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from backups.errors import PeriodInvalid
from shared.clock import format_utc

DEFAULT_SINCE = "90d"
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)  # no clock of a host has been before
_AGO = re.compile(r"([1-9][0-9]{0,3})([hdw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def start_of_period(since: str, now: datetime) -> datetime:
    """The instant that `90d`, `12h`, `2w`, a date or a UTC time means; raises `PeriodInvalid`."""
    ago = _AGO.fullmatch(since)
    if ago is not None:
        return max(now - int(ago[1]) * _UNITS[ago[2]], EARLIEST)
    try:
        found = datetime.fromisoformat(since)
        start = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _invalid(f"--since {since!r} is not a time") from None
    if start > now:
        raise _invalid(f"--since {since!r} is in the future; it is {format_utc(now)} now")
    return max(start, EARLIEST)


def _invalid(message: str) -> PeriodInvalid:
    return PeriodInvalid(
        message, "Give hours, days or weeks (12h, 90d, 2w), or a UTC time: 2026-09-01T00:00:00Z"
    )
