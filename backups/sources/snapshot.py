"""Taking consistent copies of live databases, all at one instant.

For each source that is in WAL mode a gate connection takes the write lock, a pin connection
begins a read, and the gate lets go: from then on every pin sees the database as it was while
all writers stood still, whatever they write during the copying. The gate waits for no lock
while it holds another, so a writer is held up only for the moment in which all were free.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from backups.errors import SnapshotDiffers
from backups.model import (
    DatabaseFacts,
    Progress,
    ProgressSink,
    SnapshotFile,
    Snapshots,
    Source,
)
from backups.runs.parallel import cpu_workers, in_parallel
from backups.sources.inspection import fault_of, read_facts, sha256_of
from shared.clock import Clock
from shared.databases.sqlite import BUSY_TIMEOUT_SECONDS, translate, translated
from shared.errors import (
    DatabaseCorrupt,
    DatabaseEmpty,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseUnreadable,
    DiskFull,
)
from shared.files import open_private

PAGES_A_STEP = 1024
_SECONDS_BETWEEN_TRIES = 0.002
_UNCOUNTED = DatabaseFacts(0, 0, 0, {})

# Device, inode, bytes, nanoseconds of the last write, file change counter.
UnchangingState = tuple[int, int, int, int, bytes]


@dataclass(frozen=True)
class _Pin:
    """A connection whose read transaction holds one source still."""

    source: Source
    connection: sqlite3.Connection
    journal_mode: str
    gated: bool
    unlocked: UnchangingState | None = None  # of a file that is read without locks


def take_snapshots(
    sources: Sequence[Source],
    into: Path,
    clock: Clock,
    progress: ProgressSink,
    *,
    busy_timeout: float = BUSY_TIMEOUT_SECONDS,
) -> Snapshots:
    """Copy every source to `into/<name>.db` (0600), check the copies, and count their rows.

    A source that is not in WAL mode, or that this user may only read, cannot take part in
    the common instant: its read begins when its copy does, and the copy is marked so.

    Raises `DatabaseError` and its subclasses naming the source, `SnapshotDiffers` when a
    copy is not what was read, and whatever `progress` raises, which stops the copying.
    """
    for source in sources:
        _refuse_unusable(source)
    _refuse_small_disk(sources, into)
    with ExitStack() as stack:
        pins = [_open_pin(stack, source, busy_timeout) for source in sources]
        gated = [pin for pin in pins if pin.gated]
        instant, held = _pin_together(gated, clock, busy_timeout, progress)
        # Each copy is checked and hashed at once, which takes two processors as it is.
        files = in_parallel(
            lambda pin, report: _copy(pin, into, report), gated, progress, workers=cpu_workers()
        )
        files += [_copy(pin, into, progress) for pin in pins if not pin.gated]
    by_source = {file.source: file for file in files}
    return Snapshots(instant, tuple(by_source[source.name] for source in sources), held)


def copy_one(
    source: Source,
    into: Path,
    progress: ProgressSink,
    *,
    busy_timeout: float = BUSY_TIMEOUT_SECONDS,
    checked: bool = True,
) -> SnapshotFile:
    """Copy one source as it is committed now, at its own instant; see `take_snapshots`.

    Without `checked`, a damaged database is copied page by page as it is, without counts.
    """
    with ExitStack() as stack:
        pin = replace(_open_pin(stack, source, busy_timeout), gated=False)
        return _copy(pin, into, progress, checked=checked)


def what(source: Source) -> str:
    """How messages call a source."""
    return f"source {source.name} ({source.path})"


def _refuse_unusable(source: Source) -> None:
    try:
        found = source.path.stat()
    except FileNotFoundError:
        raise DatabaseMissing(
            f"{what(source)} is missing",
            "If it was lost, bring it back with: python -m backups restore --in-place --yes. "
            "If the path is wrong, correct it in .env.",
        ) from None
    except OSError as error:
        raise DatabaseUnreadable(
            f"{what(source)} cannot be reached: {error.strerror}",
            "Check the owner and mode of its directories.",
        ) from error
    if not source.path.is_file() or not os.access(source.path, os.R_OK):
        raise DatabaseUnreadable(
            f"{what(source)} is not a file that this user may read",
            "Check its owner and mode, and run as the user that runs the app.",
        )
    if found.st_size == 0:  # SQLite would unlink the `-wal` beside it as it opens it
        raise DatabaseEmpty(
            f"{what(source)} has zero bytes",
            "Something truncated it. Keep the -wal beside it, if there is one. Bring it back "
            "with: python -m backups restore --in-place --yes",
        )


def _refuse_small_disk(sources: Sequence[Source], into: Path) -> None:
    """The copies and, later, what is read back of them must fit into the staging disk."""
    sizes = [source.path.stat().st_size + _wal_size(source) for source in sources]
    needed, free = 2 * sum(sizes), shutil.disk_usage(into).free
    if free < needed:
        raise DiskFull(
            f"the staging directory {into} has {free:,} bytes free, this run needs {needed:,}",
            "Make room on that disk, or set BACKUP_DIR to a larger one.",
        )


def _wal_size(source: Source) -> int:
    """Bytes in the `-wal`; 0 when there is none, or it goes away at this moment."""
    try:
        real = source.path.resolve()
        return real.with_name(f"{real.name}-wal").stat().st_size
    except OSError:
        return 0


def _open_pin(stack: ExitStack, source: Source, busy_timeout: float) -> _Pin:
    real = source.path.resolve()  # SQLite's own files lie beside the file, not beside a link
    writable = os.access(real, os.W_OK) and os.access(real.parent, os.W_OK)
    if writable:
        connection, journal_mode = _open_and_read(stack, source, "rw", busy_timeout)
        return _Pin(source, connection, journal_mode, gated=journal_mode == "wal")
    try:
        connection, journal_mode = _open_and_read(stack, source, "ro", busy_timeout)
        return _Pin(source, connection, journal_mode, gated=False)
    except DatabaseUnreadable:
        # SQLite cannot make the -shm that reading a WAL database takes. Where no -wal is, nobody
        # has it open, so it can be read as a file that does not change, if it does not change.
        state = unchanging_state(real)
        if state is None:
            raise
    connection, _ = _open_and_read(stack, source, "ro&immutable=1", busy_timeout)
    return _Pin(source, connection, "wal", gated=False, unlocked=state)  # as its header says


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
    if any(real.with_name(f"{real.name}{suffix}").exists() for suffix in ("-wal", "-journal")):
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


def _refuse_changed(pin: _Pin) -> None:
    if pin.unlocked is not None and unchanging_state(pin.source.path.resolve()) != pin.unlocked:
        raise DatabaseUnreadable(
            f"{what(pin.source)} was written while it was copied, and this user may not lock it",
            "Run the backups as the user that owns it, so that SQLite can lock it.",
        )


def _connect(source: Source, mode: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{source.path.resolve().as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def _pin_together(
    pins: Sequence[_Pin], clock: Clock, busy_timeout: float, progress: ProgressSink
) -> tuple[datetime, float]:
    """Begin the reads of all `pins` while no writer writes; the instant, and seconds held."""
    with ExitStack() as stack:
        gates = []
        for pin in pins:
            with translated(what(pin.source)):
                gate = stack.enter_context(closing(_connect(pin.source, "rw", 0)))
            gates.append((pin.source, gate))
        began = _close_gates(gates, busy_timeout, progress)
        instant = clock.now()
        for pin in pins:
            with translated(what(pin.source)):
                _begin_read(pin.connection)
        for _, gate in gates:
            gate.execute("ROLLBACK")
        return instant, time.perf_counter() - began


def _close_gates(
    gates: Sequence[tuple[Source, sqlite3.Connection]], busy_timeout: float, progress: ProgressSink
) -> float:
    """Take the write locks of all gates, or of none and try again; when the first was taken.

    `progress` is told between the tries, so that it can end a wait for a lock.
    """
    deadline = time.monotonic() + busy_timeout
    while True:
        began = time.perf_counter()
        held: list[sqlite3.Connection] = []
        for source, gate in gates:
            try:
                gate.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                for other in held:
                    other.execute("ROLLBACK")
                translation = translate(error, what(source))
                if not isinstance(translation, DatabaseLocked) or time.monotonic() > deadline:
                    raise translation from error
                progress(Progress("snapshot", source.name))
                break
            held.append(gate)
        else:
            return began
        time.sleep(random.uniform(0, _SECONDS_BETWEEN_TRIES))  # noqa: S311 - no secret


def _begin_read(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def _copy(pin: _Pin, into: Path, progress: ProgressSink, *, checked: bool = True) -> SnapshotFile:
    source = pin.source
    path = into / f"{source.name}.db"
    open_private(path).close()
    with translated(what(source)):
        if not pin.gated:
            _begin_read(pin.connection)
        expected = read_facts(pin.connection) if checked else _UNCOUNTED
        with closing(
            sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        ) as target:
            _copy_pages(pin, target, into, progress)
            pin.connection.execute("ROLLBACK")
            _refuse_changed(pin)
            if checked:
                target.execute("PRAGMA journal_mode=DELETE")  # out of WAL mode: it is one file
            with ThreadPoolExecutor(1, "hash") as beside:
                hashing = beside.submit(sha256_of, path)
                found = _check(target, source) if checked else _UNCOUNTED
    _refuse_difference(source, expected, found)
    return SnapshotFile(
        source=source.name,
        path=path,
        bytes=path.stat().st_size,
        sha256=hashing.result(),
        facts=found,
        same_instant=pin.gated,
        journal_mode=pin.journal_mode,
    )


def _copy_pages(pin: _Pin, target: sqlite3.Connection, into: Path, progress: ProgressSink) -> None:
    page_size = int(pin.connection.execute("PRAGMA page_size").fetchone()[0])

    def report(_status: int, remaining: int, total: int) -> None:
        done = (total - remaining) * page_size
        progress(Progress("snapshot", pin.source.name, done, total * page_size))

    target.execute("PRAGMA journal_mode=OFF")
    target.execute("PRAGMA synchronous=OFF")
    try:
        pin.connection.backup(target, pages=PAGES_A_STEP, progress=report)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise translate(error, f"the copy of {what(pin.source)} in {into}") from error
        raise


def _check(target: sqlite3.Connection, source: Source) -> DatabaseFacts:
    if fault := fault_of(target, "quick_check"):
        raise DatabaseCorrupt(
            f"{what(source)} is damaged: {fault}",
            "Nothing was stored. Restore the newest proven backup: "
            "python -m backups restore --in-place --yes",
        )
    return read_facts(target)


def _refuse_difference(source: Source, expected: DatabaseFacts, found: DatabaseFacts) -> None:
    if found != expected:
        raise SnapshotDiffers(
            f"the copy of {what(source)} holds {found}, the source held {expected}",
            "Run it again; if it happens twice, check this host's disk and memory.",
        )
