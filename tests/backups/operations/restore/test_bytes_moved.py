"""How often a run and a restore read and write the bytes of the databases, as the kernel counts it.

`rchar` and `wchar` of /proc/self/io count what files are asked for, and no sockets. The store is a
server of its own. What SQLite's check of a safety copy reads, which is most of all, is counted
apart: a pass over the rows looks each of them up in its index.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from backups.config import SealConfig
from backups.model import Progress, Source
from backups.sources.checking import soundness
from backups.sources.checking.inspection import Check
from backups.sources.checking.soundness import soundness_of
from benchmarks.databases import Pair, Values, make_pair
from benchmarks.measured import traffic_of
from shared.store.spaces import SpacesStore
from tests.support.bench import Bench, open_bench
from tests.support.generations import SOURCES, connect
from tests.support.installation import TOKEN_ENCRYPTION_KEY

pytestmark = pytest.mark.slow
MEGABYTES = 12
# Documents, records, and the first pages: a share of the size of the databases.
MARGIN = 0.1


@dataclass(frozen=True)
class Times:
    """How many times the bytes of the databases were read, and written."""

    read: float
    written: float


class Meter:
    """Counts from one look to the next, in sizes of the databases, without SQLite's deep checks."""

    def __init__(self, size: int, patch: pytest.MonkeyPatch) -> None:
        self._size = size
        self._checked = 0
        patch.setattr(soundness, "soundness_of", self._watched)
        self._last = self._now()

    def take(self) -> Times:
        """What was moved since the last look."""
        now = self._now()
        read, written = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        return Times(read / self._size, written / self._size)

    def _now(self) -> tuple[int, int]:
        found = traffic_of(os.getpid())
        return found.read - self._checked, found.written

    def _watched(self, connection: sqlite3.Connection, check: Check) -> soundness.Soundness:
        before = _read_by_this_thread()
        found = soundness_of(connection, check)
        self._checked += _read_by_this_thread() - before
        return found


def _read_by_this_thread() -> int:
    lines = Path("/proc/thread-self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Databases of the bot with keys in random order, made once."""
    folder = tmp_path_factory.mktemp("pair") / "data"
    return make_pair(folder, MEGABYTES, Values(TOKEN_ENCRYPTION_KEY))


@dataclass(frozen=True)
class Moved:
    """A bench over copies of the pair that a bot has open, and what counts."""

    bench: Bench
    size: int
    patch: pytest.MonkeyPatch

    def meter(self) -> Meter:
        """Begin to count."""
        return Meter(self.size, self.patch)

    def change(self) -> None:
        """Let the live databases differ from the set."""
        for table in SOURCES:
            with closing(connect(self.bench.live(table))) as bot:
                bot.execute(f"DELETE FROM {table} WHERE rowid = 1")

    def restored_in_place(self) -> tuple[Times, Times]:
        """Plan and restore: what was moved until the databases were replaced, and after that."""
        until: list[Times] = []
        meter = self.meter()

        def look(progress: Progress) -> None:
            if progress.stage == "keep" and not until:
                until.append(meter.take())

        self.bench.restored(progress=look)
        return until[0], meter.take()


@pytest.fixture
def moved(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    pair: Pair,
    empty_spaces_store: SpacesStore,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Moved]:
    """With the compression that is the parameter, none by default."""
    data = tmp_path / "data"
    data.mkdir()
    sources = [Source(path.stem, data / path.name) for path in pair.paths]
    config = SealConfig(getattr(request, "param", "none"), ())
    with ExitStack() as stack:
        for path, source in zip(pair.paths, sources, strict=True):
            source.path.write_bytes(path.read_bytes())
            bot = stack.enter_context(closing(connect(source.path)))
            bot.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        bench = stack.enter_context(
            open_bench(tmp_path, empty_spaces_store, sources=sources, seal=config)
        )
        yield Moved(bench, pair.bytes, monkeypatch)


def test_a_restore_in_place_from_the_local_copy(moved: Moved) -> None:
    """Read 7 times until the databases are replaced: the live one by the check of the plan (2),
    the safety copy's source and the transaction that replaces it (2), the copy by its hash and that
    transaction (2), the log (1). Written 3 times: safety copy, log, database. Then the safety copy
    is hashed and sent."""
    moved.bench.made()
    moved.change()
    replaced, kept = moved.restored_in_place()
    assert replaced.read < 7 + MARGIN
    assert replaced.written < 3 + MARGIN
    assert kept.read < 2.2 + MARGIN
    assert kept.written < MARGIN


@pytest.mark.parametrize("moved", ["zstd"], indirect=True)
def test_a_restore_in_place_from_the_store(moved: Moved) -> None:
    """Nothing is read that was just fetched but by the transaction that replaces the database, and
    the sealed bytes are not written."""
    moved.bench.made()
    moved.bench.forget_copies()
    moved.change()
    replaced, kept = moved.restored_in_place()
    assert replaced.read < 6 + MARGIN
    assert replaced.written < 4 + MARGIN
    assert replaced.written + kept.written < 4.6 + MARGIN


@pytest.mark.parametrize("moved", ["none", "zstd"], indirect=True)
def test_a_restore_into_a_folder_writes_each_byte_once(moved: Moved, tmp_path: Path) -> None:
    """What comes from the store is not read again; it has its name in the folder by a link."""
    moved.bench.made()
    moved.bench.forget_copies()
    meter = moved.meter()
    moved.bench.restored(to=tmp_path / "target")
    taken = meter.take()
    assert taken.read < MARGIN
    assert taken.written < 1 + MARGIN


def test_a_run_writes_each_byte_once(moved: Moved) -> None:
    """Read by the copying, its hash and the put, and for the counts before and after; what comes
    back from the store is a stream."""
    meter = moved.meter()
    moved.bench.made()
    taken = meter.take()
    assert taken.read < 3.4 + MARGIN
    assert taken.written < 1 + MARGIN
