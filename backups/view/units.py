"""How ages, sizes and instants read to a person, the same in every interface. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backups.decisions.order import FUTURE_TOLERANCE
from backups.model import BackupSet
from backups.vocabulary.bot import InboxFacts
from shared.words import counted

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def age(span: timedelta) -> str:
    """`12 days`, `5 h 12 min` or `3 min 20 s`; what lies in the future is `in 12 days`.

    By less than clocks differ, it is `0 min 0 s`.
    """
    if -span > FUTURE_TOLERANCE:
        return f"in {age(-span)}"
    hours, seconds = divmod(max(int(span.total_seconds()), 0), 3600)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {seconds // 60} min" if hours else f"{seconds // 60} min {seconds % 60} s"


def old(span: timedelta) -> str:
    """`12 days old`, or `12 days in the future`."""
    return _told(span, "old")


def ago(span: timedelta) -> str:
    """`12 days ago`, or `12 days in the future`."""
    return _told(span, "ago")


def _told(span: timedelta, word: str) -> str:
    return f"{age(-span)} in the future" if -span > FUTURE_TOLERANCE else f"{age(span)} {word}"


def mark_of(one: BackupSet) -> str:
    """How the mark of a set reads: `mark valid`, `no mark`, `mark of unknown key …`."""
    if one.kind == "legacy" or one.mark == "unsigned":
        return "no mark"
    if one.mark == "unknown_key":
        return f"mark of unknown key {one.mark_key}"
    return f"mark {one.mark}"


def size(count: int) -> str:
    """`812 bytes`, `8.2 kB`, `1.5 GB`: decimal units, as providers bill them."""
    amount = float(count)
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            return f"{count:,} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, then as an age."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 60 else age(timedelta(seconds=seconds))


def within(span: timedelta) -> str:
    """`a second`, `a minute`, `90 s`, `2 h 0 min`: a promise."""
    seconds = span.total_seconds()
    names = {1: "a second", 60: "a minute", 3600: "an hour"}
    return names.get(int(seconds)) or (
        f"{seconds:.0f} s" if seconds < 120 else age(span).removesuffix(" 0 s")
    )


def moment(instant: datetime) -> str:
    """`22 Nov 2026, 01:00 UTC`."""
    utc = instant.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M} UTC"


def second(instant: datetime) -> str:
    """`22 Nov, 01:00:07`: a second of the last days, in UTC."""
    utc = instant.astimezone(UTC)
    return f"{utc.day} {utc:%b, %H:%M:%S}"


def clock(instant: datetime, now: datetime) -> str:
    """`01:00:07` of today, `22 Nov, 01:00:07` of another day, in UTC."""
    utc = instant.astimezone(UTC)
    return f"{utc:%H:%M:%S}" if utc.date() == now.astimezone(UTC).date() else second(utc)


def inbox(found: InboxFacts | None) -> str:
    """`nothing waits`, or `3 updates waiting, the oldest for 20 min 0 s; 1 set aside`."""
    if found is None:
        return "not known"
    waits = "nothing waits"
    if found.waiting:
        oldest = duration(found.oldest_seconds)
        waits = f"{counted(found.waiting, 'update')} waiting, the oldest for {oldest}"
    return f"{waits}; {found.set_aside:,} set aside" if found.set_aside else waits


def sentence(text: str) -> str:
    """A message, which begins small and has no full stop, as a sentence of its own.

    A path, an id or a name that it begins with stays as it is: only a word gets a capital.
    """
    first = text.partition(" ")[0].rstrip(",:;")
    if first.replace("'", "").isalpha():
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def pin_of(one: BackupSet) -> str:
    """What is said of a set that a person keeps."""
    return f"pinned: {one.label}" if one.label else "pinned"
