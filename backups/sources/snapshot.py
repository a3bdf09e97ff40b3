"""Taking consistent copies of live databases, all at one instant.

Every source is pinned (see `pins`), copied while its writers go on, and compared with what the pin
saw. SQLite checks the copies later, while they are sent (`soundness`), or here, if it is asked to.

One file, because all sources of a set are copied in one order, and one of them alone by the same.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from backups.errors import LinkDangling, SnapshotDiffers
from backups.host.removal import remove_file
from backups.model import (
    DatabaseFacts,
    Progress,
    ProgressSink,
    SnapshotFile,
    Snapshots,
    Source,
)
from backups.runs.parallel import cpu_workers, in_parallel
from backups.sources.checking.inspection import read_facts, sha256_of
from backups.sources.checking.soundness import soundness_of
from backups.sources.links import real_path, refuse_dangling_link
from backups.sources.pins import (
    Pin,
    PinFailed,
    begin_read,
    open_pin,
    pin_together,
    refuse_changed,
    what,
)
from backups.sources.room import refuse_small_disk
from shared.bounded import MOST_TEXT
from shared.clock import Clock
from shared.databases.sqlite import BUSY_TIMEOUT_SECONDS, restore_remedy
from shared.databases.translation import translate, translated
from shared.databases.untrusted import open_untrusted
from shared.errors import (
    AppError,
    DatabaseCorrupt,
    DatabaseEmpty,
    DatabaseError,
    DatabaseMissing,
    DatabaseSchemaMismatch,
    DatabaseUnreadable,
    DiskFull,
)
from shared.files import open_private
from shared.words import counted

PAGES_A_STEP = 1024
_SECONDS_TO_BE_FILLED = 2.0
_SECONDS_BETWEEN_LOOKS = 0.02
_UNCOUNTED = DatabaseFacts(0, 0, 0, {})
# Nine tenths of what a manifest takes (`backups/format/document.py`).
_MOST_TABLES = 9000
_MOST_BYTES_OF_TABLES = 900_000


def take_snapshots(
    sources: Sequence[Source],
    into: Path,
    clock: Clock,
    progress: ProgressSink,
    *,
    busy_timeout: float = BUSY_TIMEOUT_SECONDS,
    failures: dict[str, AppError] | None = None,
    number: Callable[[], int] | None = None,
    checked: bool = False,
    copied: Callable[[str, Path], None] = lambda _source, _path: None,
) -> Snapshots:
    """Copy every source to `into/<name>.db` (0600), and count the rows of the copies.

    A source that is not in WAL mode, or that this user may only read, cannot take part in
    the common instant: its read begins when its copy does, and the copy is marked so. `number`
    gives their place in the order of all points, and is called while the writers stand still.
    Copies that are `checked` are not damaged. Of each copy `copied` hears when it is there and
    has the rows that it should have: the others may still be copied.

    Raises `DatabaseError` and its subclasses naming the source, `LinkDangling`, `SnapshotDiffers`
    when a copy is not what was read, and whatever `progress` raises, which stops the copying. Where
    `failures` is given, the error of a source is put there instead, as long as another one
    can be copied.
    """
    noted: dict[str, AppError] = {} if failures is None else failures

    def note(source: Source, error: AppError) -> None:
        """Go on without a source; raises its error where that is not wanted."""
        if failures is None or isinstance(error, DiskFull):
            raise error
        noted[source.name] = error

    sequence: list[int] = []

    def take_number() -> None:
        if number is not None:
            sequence[:] = [number()]

    usable: list[Source] = []
    for source in sources:
        try:
            _refuse_same_file(source, usable)
            _refuse_unusable(source, into)
            usable.append(source)
        except (DatabaseError, LinkDangling) as error:
            note(source, error)
    refuse_small_disk(usable, into)
    with ExitStack() as stack:
        pins = []
        for source in usable:
            try:
                pins.append(open_pin(stack, source, busy_timeout))
            except DatabaseError as error:
                note(source, error)
        gated = [pin for pin in pins if pin.gated]
        while True:
            try:
                instant = pin_together(gated, clock, busy_timeout, progress, take_number)
                break
            except PinFailed as failed:
                note(failed.source, failed.error)
                gated = [pin for pin in gated if pin.source != failed.source]

        def copy(pin: Pin, report: ProgressSink) -> SnapshotFile | None:
            try:
                return _copy(pin, into, report, copied, checked=checked)
            except (DatabaseError, SnapshotDiffers) as error:
                note(pin.source, error)
                remove_file(into / f"{pin.source.name}.db")
                return None

        # Each copy is counted and hashed at once, which takes two processors as it is.
        files = in_parallel(copy, gated, progress, workers=cpu_workers())
        files += [copy(pin, progress) for pin in pins if not pin.gated]
    by_source = {file.source: file for file in files if file is not None}
    if not by_source and noted:
        raise next(iter(noted.values()))
    taken = tuple(by_source[source.name] for source in sources if source.name in by_source)
    return Snapshots(instant, taken, sequence[0] if sequence else None)


def _refuse_same_file(source: Source, others: Sequence[Source]) -> None:
    """Two hard links of one file would wait for each other's lock, in one process."""
    for other in others:
        with suppress(OSError):  # whoever opens it names that
            if source.path.samefile(other.path):
                raise DatabaseUnreadable(
                    f"{what(source)} is the same file as {what(other)}",
                    "Remove one of the two names from .env.",
                )


def copy_one(
    source: Source,
    into: Path,
    progress: ProgressSink,
    *,
    busy_timeout: float = BUSY_TIMEOUT_SECONDS,
    sound: bool = True,
) -> SnapshotFile:
    """Copy one source as it is committed now, page by page as it is; see `take_snapshots`.

    What is in it, `measured` finds out. What is not `sound` may stay flagged for WAL.
    """
    with ExitStack() as stack:
        pin = open_pin(stack, source, busy_timeout)
        path = into / f"{source.name}.db"
        with translated(what(source)):
            begin_read(pin.connection)
        with _copied(pin, path, progress) as target:
            if sound:
                target.execute("PRAGMA journal_mode=DELETE")
    size = path.stat().st_size
    return SnapshotFile(source.name, path, size, "", _UNCOUNTED, False, pin.journal_mode)


def measured(file: SnapshotFile) -> SnapshotFile:
    """The copy that `copy_one` has made, with its hash and counts. Raises `DatabaseError`."""
    with open_untrusted(file.path, f"the copy of source {file.source}") as copy:
        facts = read_facts(copy)
    return replace(file, sha256=sha256_of(file.path), facts=facts)


def _refuse_unusable(source: Source, staging: Path) -> None:
    refuse_dangling_link(source)
    try:
        source.path.stat()
    except FileNotFoundError:
        raise DatabaseMissing(
            f"{what(source)} is missing",
            f"If it was lost, restore it: ./bot backups restore --only {source.name} "
            "--in-place --yes. If the path is wrong, correct it in .env. If the app has just been "
            "started for the first time, run it again.",
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
    if _stays_empty(source.path, staging):  # SQLite would unlink the `-wal` as it opens it
        raise DatabaseEmpty(
            f"{what(source)} has zero bytes: it was truncated, or never filled",
            f"Keep the -wal beside it, if there is one. {restore_remedy(source.name)}",
        )


def _stays_empty(path: Path, staging: Path) -> bool:
    """Whether a file has zero bytes, also after whoever is just creating it had time to fill it.

    SQLite makes the file of a new database before its first page. `staging`, which was made a
    moment ago, tells the time: by the clock of the disk, as the file does.
    """
    deadline = time.monotonic() + _SECONDS_TO_BE_FILLED
    with suppress(FileNotFoundError):  # whoever opens it names that
        while (found := path.stat()).st_size == 0:
            old = staging.stat().st_mtime - found.st_mtime > _SECONDS_TO_BE_FILLED
            real = real_path(path)
            has_wal = real.with_name(f"{real.name}-wal").exists()
            if old or has_wal or time.monotonic() > deadline:
                return True
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    return False


@contextmanager
def _copied(pin: Pin, path: Path, progress: ProgressSink) -> Iterator[sqlite3.Connection]:
    """A connection to the new 0600 file `path`, into which what a pin reads was copied."""
    open_private(path).close()
    with (
        translated(what(pin.source)),
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as target,
    ):
        _copy_pages(pin, target, path.parent, progress)
        pin.connection.execute("ROLLBACK")
        refuse_changed(pin)
        yield target


def _copy(
    pin: Pin,
    into: Path,
    progress: ProgressSink,
    copied: Callable[[str, Path], None],
    *,
    checked: bool,
) -> SnapshotFile:
    source = pin.source
    path = into / f"{source.name}.db"
    with translated(what(source)):
        if not pin.gated:
            begin_read(pin.connection)
        expected = read_facts(pin.connection)
    with _copied(pin, path, progress) as target:
        target.execute("PRAGMA journal_mode=DELETE")  # out of WAL mode: it is one file
        with ThreadPoolExecutor(1, "hash") as beside:
            hashing = beside.submit(sha256_of, path)
            if checked:
                _check(target, source)
            found = read_facts(target)
            _refuse_difference(source, expected, found)
            _refuse_large_schema(found, source)
            copied(source.name, path)
    return SnapshotFile(
        source=source.name,
        path=path,
        bytes=path.stat().st_size,
        sha256=hashing.result(),
        facts=found,
        same_instant=pin.gated,
        journal_mode=pin.journal_mode,
    )


def _refuse_large_schema(facts: DatabaseFacts, source: Source) -> None:
    """Raise `DatabaseSchemaMismatch` for more tables than a manifest takes, or longer names: it
    would stop the backup of all sources."""
    longest = max(map(len, facts.rows), default=0)
    described = len(json.dumps(dict(facts.rows)))
    if len(facts.rows) > _MOST_TABLES or longest > MOST_TEXT or described > _MOST_BYTES_OF_TABLES:
        raise DatabaseSchemaMismatch(
            f"{what(source)} has {counted(len(facts.rows), 'table')}, and the longest name of one "
            f"has {counted(longest, 'letter')}: a manifest takes {_MOST_TABLES:,} of at most "
            f"{MOST_TEXT:,} letters",
            "Remove it from BACKUP_EXTRA_SOURCES, and back it up in another way.",
        )


def _copy_pages(pin: Pin, target: sqlite3.Connection, into: Path, progress: ProgressSink) -> None:
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


def _check(target: sqlite3.Connection, source: Source) -> None:
    if fault := soundness_of(target, "quick_check").fault:
        raise DatabaseCorrupt(
            f"{what(source)} is damaged: {fault}",
            f"Nothing of it was stored. {restore_remedy(source.name)}",
        )


def _refuse_difference(source: Source, expected: DatabaseFacts, found: DatabaseFacts) -> None:
    if found != expected:
        raise SnapshotDiffers(
            f"the copy of {what(source)} holds {found}, but the source held {expected}",
            "Run it again; if it happens twice, check this host's disk and memory.",
        )
