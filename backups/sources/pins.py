"""Holding live databases still: a read transaction on each, all begun at one instant.

For each source that is in WAL mode a gate connection takes the write lock, a pin connection
begins a read, and the gate lets go: from then on every pin sees the database as it was while
all writers stood still, whatever they write during the copying. The lock that was busy is tried
first the next time, while no other is held. Where a writer goes from one source to the next
without a pause, no moment comes in which all are free: then a lock that was had is held for up to
50 ms, in which that writer comes to it and waits, and the others become free.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backups.model import Progress, ProgressSink, Source
from backups.sources.links import real_path
from shared.clock import Clock
from shared.databases.translation import translate, translated
from shared.errors import DatabaseError, DatabaseLocked, DatabaseUnreadable

_SECONDS_BETWEEN_TRIES = 0.002
# After so many tries one lock is held while the next is waited for, and for how long.
_TRIES_BEFORE_HOLDING = 10
_MOST_SECONDS_HELD = 0.05

# Device, inode, bytes, nanoseconds of the last write, file change counter.
UnchangingState = tuple[int, int, int, int, bytes]


class PinFailed(Exception):
    """Why one of several sources could not be held still; the others were let go."""

    def __init__(self, source: Source, error: DatabaseError) -> None:
        super().__init__(error.message)
        self.source = source
        self.error = error


@contextmanager
def _of(source: Source) -> Iterator[None]:
    try:
        with translated(what(source)):
            yield
    except DatabaseError as error:
        raise PinFailed(source, error) from error


@dataclass(frozen=True)
class Pin:
    """A connection whose read transaction holds one source still."""

    source: Source
    connection: sqlite3.Connection
    journal_mode: str
    gated: bool
    unlocked: UnchangingState | None = None  # of a file that is read without locks


def what(source: Source) -> str:
    """How messages call a source."""
    return f"source {source.name} ({source.path})"


def open_pin(stack: ExitStack, source: Source, busy_timeout: float) -> Pin:
    """A connection to a source that has read its schema; `stack` closes it.

    One that this user may only read, or that is not in WAL mode, takes no part in the common
    instant. Raises `DatabaseError` and its subclasses, naming the source.
    """
    real = real_path(source.path)  # SQLite's own files lie beside the file, not beside a link
    writable = os.access(real, os.W_OK) and os.access(real.parent, os.W_OK)
    if writable:
        connection, journal_mode = _open_and_read(stack, source, "rw", busy_timeout)
        return Pin(source, connection, journal_mode, gated=journal_mode == "wal")
    # Reading a WAL database with locks takes a -shm. Made by this user it would stay behind, and
    # lock out the owner. Where no -wal is, nobody has the database open, so it can be read as a
    # file that does not change, if it does not change.
    state = unchanging_state(real)
    if state is not None:
        connection, _ = _open_and_read(stack, source, "ro&immutable=1", busy_timeout)
        return Pin(source, connection, "wal", gated=False, unlocked=state)  # as its header says
    if _has(real, "-wal") and not _has(real, "-shm"):
        raise DatabaseUnreadable(
            f"{what(source)} was left with a -wal that no process has open, and this user may not "
            "write to it",
            "Start the app, or run the backups as the user that owns the database.",
        )
    connection, journal_mode = _open_and_read(stack, source, "ro", busy_timeout)
    return Pin(source, connection, journal_mode, gated=False)


def _open_and_read(
    stack: ExitStack, source: Source, mode: str, busy_timeout: float
) -> tuple[sqlite3.Connection, str]:
    with translated(what(source)), ExitStack() as opening:
        connection = opening.enter_context(closing(_connect(source, mode, busy_timeout)))
        journal_mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        # The first read loads the schema, so that none of that happens under the gate.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        stack.push(opening.pop_all())
        return connection, journal_mode


def unchanging_state(real: Path) -> UnchangingState | None:
    """How a WAL database is that nobody has open; None where another journal lies beside it.

    The file change counter is read by a child process: a descriptor of a live file that is
    closed in this one would drop SQLite's locks. https://www.sqlite.org/fileformat2.html
    """
    if _has(real, "-wal") or _has(real, "-journal"):
        return None
    try:
        found = real.stat()
        header = subprocess.run(
            ["head", "-c", "28", str(real)], capture_output=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    if header[18:20] != b"\x02\x02":  # a rollback-journal database locks: it is never read so
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, header[24:28]


def _has(real: Path, suffix: str) -> bool:
    return real.with_name(f"{real.name}{suffix}").exists()


def refuse_changed(pin: Pin) -> None:
    """Raise `DatabaseUnreadable` when what was read without locks has been written since."""
    if pin.unlocked is not None and unchanging_state(real_path(pin.source.path)) != pin.unlocked:
        raise DatabaseUnreadable(
            f"{what(pin.source)} was written while it was copied, and this user may not lock it",
            "Run the backups as the user that owns it, so that SQLite can lock it.",
        )


def _connect(source: Source, mode: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{real_path(source.path).as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def pin_together(
    pins: Sequence[Pin],
    clock: Clock,
    busy_timeout: float,
    progress: ProgressSink,
    in_the_gates: Callable[[], None] = lambda: None,
) -> datetime:
    """Begin the reads of all `pins` while no writer writes; the instant.

    `in_the_gates` is called while all writers stand still, and has to be quick. Raises `PinFailed`
    for the first that cannot take part; none is held then.
    """
    with ExitStack() as stack:
        gates = []
        for pin in pins:
            with _of(pin.source):
                gate = stack.enter_context(closing(_connect(pin.source, "rw", 0)))
            gates.append((pin.source, gate))
        _close_gates(gates, busy_timeout, progress)
        instant = clock.now()
        in_the_gates()
        for pin in pins:
            try:
                with _of(pin.source):
                    begin_read(pin.connection)
            except PinFailed:
                for begun in pins:
                    if begun.connection.in_transaction:
                        begun.connection.execute("ROLLBACK")
                raise
        for _, gate in gates:
            gate.execute("ROLLBACK")
        return instant


def _close_gates(
    gates: Sequence[tuple[Source, sqlite3.Connection]], busy_timeout: float, progress: ProgressSink
) -> None:
    """Take the write locks of all gates, or of none and try again.

    `progress` is called between the tries, so that it can end a wait for a lock.
    """
    deadline = time.monotonic() + busy_timeout
    waiting = list(gates)
    tries = 0
    while True:
        patience = 0.0 if tries < _TRIES_BEFORE_HOLDING else _MOST_SECONDS_HELD
        busy = _take_all(waiting, patience)
        if busy is None:
            return
        source, error = busy
        translation = translate(error, what(source))
        if not isinstance(translation, DatabaseLocked) or time.monotonic() > deadline:
            raise PinFailed(source, translation) from error
        progress(Progress("snapshot", source.name))
        waiting.sort(key=lambda gate: gate[0] != source)
        tries += 1
        time.sleep(random.uniform(0, _SECONDS_BETWEEN_TRIES))  # noqa: S311 - no secret


def _take_all(
    gates: Sequence[tuple[Source, sqlite3.Connection]], patience: float
) -> tuple[Source, sqlite3.OperationalError] | None:
    """Take all write locks, or none: then which one could not be had, and why.

    So long as one is held, the others are waited for no longer than `patience` in all.
    """
    held: list[sqlite3.Connection] = []
    until = 0.0
    for source, gate in gates:
        while True:
            try:
                gate.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if time.monotonic() < until:
                    time.sleep(_SECONDS_BETWEEN_TRIES / 10)
                    continue
                for other in held:
                    other.execute("ROLLBACK")
                return source, error
        until = until or time.monotonic() + patience
        held.append(gate)
    return None


def begin_read(connection: sqlite3.Connection) -> None:
    """Begin a transaction that sees the database as it is now, until its end."""
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
