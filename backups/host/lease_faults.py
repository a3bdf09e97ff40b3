"""Who leads, as the leases tell, and a process that keeps one and does nothing: what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.host.directory import BackupDirectory
from backups.host.heartbeats import Heartbeat, load_signs
from backups.model import Finding
from shared.clock import format_utc
from shared.databases.engines.holder import Holder
from shared.errors import DatabaseError

# How long a holder may be stopped, or a leader silent; its heartbeats come every ten seconds.
MOST_SILENCE = timedelta(minutes=2)
# A run notices its deadline at its next report of progress, and then has to end.
AFTER_THE_DEADLINE = timedelta(minutes=5)


@dataclass(frozen=True)
class Leading:
    """Which process leads, its heartbeats, and what is wrong with leases.

    Where none leads, none has since `unled_since`, as far as that is known. `is_known` is false
    while the database in which several hosts have their leases cannot be used.
    """

    owner: tuple[str, int] | None
    heartbeat: Heartbeat | None
    unled_since: datetime | None
    faults: tuple[Finding, ...]
    is_known: bool = True


def read_leading(directory: BackupDirectory, timeout: timedelta, now: datetime) -> Leading:
    """Ask the leases; `timeout` is a run's. Raises `DirectoryUnusable`."""
    try:
        owner = directory.scheduler_lease.holder()
        heartbeat = _heartbeat(directory) if owner is not None else None
        return Leading(
            owner,
            heartbeat,
            _unled_since(directory, now),
            lease_faults(directory, heartbeat, timeout, now),
        )
    except DatabaseError as error:
        away = Finding("database_unreachable", error.message, error.hint)
        return Leading(None, None, directory.heartbeats.written_at(), (away,), is_known=False)


def _heartbeat(directory: BackupDirectory) -> Heartbeat | None:
    """How the leader is: of several hosts it says so in the lease, else in a file of this host."""
    holder = directory.scheduler_lease.announced()
    if holder is not None and holder.signs is not None:
        return load_signs(holder)
    return directory.heartbeats.read()


def _unled_since(directory: BackupDirectory, now: datetime) -> datetime | None:
    """When a process last led, or began to lead, as far as its heartbeats or its lease say."""
    holder = directory.scheduler_lease.announced()
    began = now - holder.held_for if holder is not None else None
    known = [at for at in (directory.heartbeats.written_at(), began) if at is not None]
    return max(known, default=None)


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
