"""Who is notified of a problem, in words. Pure."""

from __future__ import annotations

from backups.decisions.health import Status
from shared.clock import format_utc
from shared.words import counted


def notified(status: Status) -> str:
    """`nobody`, or how many receivers, and how the last message to one of them ended."""
    names = [
        *([counted(status.receivers, "receiver")] if status.receivers else []),
        *(["a heartbeat URL"] if status.has_heartbeat else []),
    ]
    who = " and ".join(names) or "nobody"
    if not status.receivers:
        return who
    last = status.last_message
    if last is None:
        return f"{who}; no message was sent yet"
    result = "was sent" if last.result == "sent" else "could not be sent"
    return f"{who}; the last message {result}, {format_utc(last.at)}"
