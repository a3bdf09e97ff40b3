"""Leases that are held by a process that does nothing with them: who, since when, what to do."""

from __future__ import annotations

from datetime import datetime, timedelta

from backups.host.directory import BackupDirectory
from backups.host.heartbeats import Heartbeat
from backups.model import Finding
from shared.clock import format_utc
from shared.databases.engines.holder import Holder

# How long a holder may be stopped, or a leader silent; its heartbeats come every ten seconds.
MOST_SILENCE = timedelta(minutes=2)
# A run notices its deadline at its next report of progress, and then has to end.
AFTER_THE_DEADLINE = timedelta(minutes=5)


def lease_faults(
    directory: BackupDirectory, heartbeat: Heartbeat | None, timeout: timedelta, now: datetime
) -> tuple[Finding, ...]:
    """A finding for each process that keeps a lease and does nothing; `timeout` is a run's."""
    silent = heartbeat if heartbeat is not None and heartbeat.age > MOST_SILENCE else None
    found: dict[tuple[str, int], Finding] = {}
    for lease, name, most in (
        (directory.scheduler_lease, "scheduler lease", timedelta.max),
        (directory.run_lease, "run lease", timeout + AFTER_THE_DEADLINE),
    ):
        holder = lease.announced()
        if holder is None or (holder.host, holder.pid) in found:
            continue
        why = _why(holder, silent, most)
        if why is not None and lease.is_kept():
            found[holder.host, holder.pid] = _finding(holder, name, why, now)
    return tuple(found.values())


def _why(holder: Holder, silent: Heartbeat | None, most: timedelta) -> str | None:
    """Why the holder counts as stuck, or None while it does not."""
    if holder.held_for <= MOST_SILENCE:
        return None
    if holder.stopped:
        return "is stopped (by SIGSTOP, Ctrl-Z or a debugger)"
    if silent is not None and (silent.host, silent.pid) == (holder.host, holder.pid):
        return f"has given no sign of life for {silent.age // timedelta(minutes=1)} min"
    return "is past the end that BACKUP_TIMEOUT sets" if holder.held_for > most else None


def _finding(holder: Holder, name: str, why: str, now: datetime) -> Finding:
    # By the time that has passed, not by the clock of then: that may have been set since.
    since = format_utc((now - holder.held_for).replace(microsecond=0))
    return Finding(
        "lease_stuck",
        f"process {holder.pid} on {holder.host} has held the {name} since {since}, and {why}",
        f"If it was stopped, let it go on: kill -CONT {holder.pid}. Else end it: "
        f"kill -9 {holder.pid}. Then start the app again, if it was the app's. The lease is free "
        "as soon as the process is gone.",
    )
