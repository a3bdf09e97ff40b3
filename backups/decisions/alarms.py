"""Which messages go out when the state of the backups changes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from backups.model import Finding

# Problems that someone must hear of; each once for as long as it lasts.
ALARMING = (
    "last_run_failed",
    "suspect",
    "overdue",
    "drill_failed",
    "two_writers",
    "token_key_lost",
    "started_empty",
)


@dataclass(frozen=True)
class Message:
    """What a notification says."""

    title: str
    body: str


def active_alarms(problems: Sequence[Finding]) -> tuple[Finding, ...]:
    """The problems that are alarms, in the order of status."""
    return tuple(found for found in problems if found.code in ALARMING)


def message_for(before: Collection[str], now: Sequence[Finding], *, name: str) -> Message | None:
    """What to say when the alarms went from the codes `before` to `now`; None for nothing new.

    Each alarm is sent when it comes, and once that all are over.
    """
    new = [found for found in now if found.code not in before]
    if new:
        lines = [f"{found.message}\n-> {found.hint}" for found in new]
        return Message(f"Backup problem on {name}: {new[0].code}", "\n\n".join(lines))
    if before and not now:
        return Message(
            f"Backups on {name} are healthy again",
            "No longer a problem: " + ", ".join(sorted(before)),
        )
    return None


def success_message(name: str, set_id: str) -> Message:
    """For those who want to hear of every good run."""
    return Message(f"Backup done on {name}", f"Set {set_id} is stored, read back and proven.")


def test_message(name: str) -> Message:
    """For `doctor --notify`."""
    return Message(
        f"Test message from the backups on {name}", "If you read this, notifications work."
    )
