"""The room on the disk: what each command asks for, what it takes, and what it leaves free."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backups.config import SealConfig
from backups.model import Progress, Run, Source
from backups.runs import parallel
from backups.runs.run import Recorder
from backups.sets.seal import generate_key_pair, most_sealed_bytes, seal
from backups.sources.room import RESERVE_BYTES, Need, Room
from tests.support.bench import Bench, open_bench
from tests.support.small_disk import run_on_small_disk

REPOSITORY = Path(__file__).resolve().parents[3]
MEGABYTES = 3
SEALS = ["none", "zstd", "age", "zstd and age"]


def random_database(path: Path, megabytes: int) -> Source:
    """A database in WAL mode that no compression makes smaller."""
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS rows(id INTEGER PRIMARY KEY, body BLOB)")
        connection.execute("BEGIN")
        for _ in range(megabytes * 16):
            connection.execute("INSERT INTO rows(body) VALUES (?)", (os.urandom(65_000),))
        connection.execute("COMMIT")
    return Source(path.stem, path)


def bytes_below(folder: Path) -> int:
    """What the files below a folder take on the disk, each counted once."""
    found: dict[int, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(parent, name).lstat()
            except FileNotFoundError:
                continue
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


@dataclass
class Sampler:
    """The most that a folder had on the disk, beside what runs asked for.

    What a folder takes only falls when a file is removed or cut: it is measured before each time.
    """

    folder: Path
    most: int = 0
    # For each time that a run asked: what the folder had then, what was asked, the most after it.
    asked: list[tuple[int, int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        with self.lock:
            self.most = max(self.most, bytes_below(self.folder))

    def ask(self, room: Room) -> None:
        self.look()
        needed = room.needed(self.folder) - RESERVE_BYTES
        with self.lock:
            self.asked.append((bytes_below(self.folder), needed, self.most))
            self.most = 0

    def peaks(self) -> list[tuple[int, int]]:
        """What was asked for each time, and what was taken until the next one."""
        self.look()
        most = [*(before for _, _, before in self.asked[1:]), self.most]
        return [
            (asked, peak - start) for (start, asked, _), peak in zip(self.asked, most, strict=True)
        ]

    def begin(self) -> None:
        self.most = 0
        self.asked.clear()


@pytest.fixture
def sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    """Watches all of `tmp_path`: live databases, `BACKUP_DIR`, and the store beside them."""
    made = Sampler(tmp_path)
    for name in ("unlink", "remove", "truncate", "rename", "replace"):
        original: Callable[..., Any] = getattr(os, name)

        def watched(*values: Any, _original: Callable[..., Any] = original, **named: Any) -> Any:
            made.look()
            return _original(*values, **named)

        monkeypatch.setattr(os, name, watched)
    keep_room = Recorder.keep_room

    def asked(recorder: Recorder, room: Any) -> None:
        made.ask(room)
        keep_room(recorder, room)

    monkeypatch.setattr(Recorder, "keep_room", asked)
    # Two workers, also where the machine has one processor: they take the most room.
    monkeypatch.setattr(parallel, "cpu_workers", lambda: 2)
    for module in ("backups.sets.publish", "backups.sources.snapshot"):
        monkeypatch.setattr(f"{module}.cpu_workers", lambda: 2)
    return made


@contextmanager
def random_bench(folder: Path, sealing: str) -> Iterator[Bench]:
    """An installation with two databases of random rows, sealed in one of `SEALS`."""
    secret, public = generate_key_pair()
    identity = folder / "identity.txt"
    identity.write_text(secret)
    identity.chmod(0o600)
    config = SealConfig(
        compression="zstd" if "zstd" in sealing else "none",
        recipients=(public,) if "age" in sealing else (),
    )
    sources = [
        random_database(folder / "data" / "tokens.db", MEGABYTES),
        random_database(folder / "data" / "sessions.db", MEGABYTES),
    ]
    with ExitStack() as stack:
        for source in sources:  # as the bot does: SQLite then keeps what a `-wal` has grown to
            bot = stack.enter_context(closing(sqlite3.connect(source.path)))
            bot.execute("SELECT count(*) FROM rows").fetchone()
        yield stack.enter_context(
            open_bench(folder, sources=sources, seal=config, identity_file=identity, local_copies=0)
        )


def restore(bench: Bench) -> Run:
    return bench.restore()


def restore_to(bench: Bench) -> Run:
    return bench.restore(to=bench.folder / "target")


def verify(bench: Bench) -> Run:
    return bench.verify()


def drill(bench: Bench) -> Run:
    return bench.service.drill.begin().execute()


def undo(bench: Bench) -> Run:
    return bench.service.undo.begin().execute()


@pytest.mark.parametrize("sealing", SEALS)
def test_no_command_takes_more_room_than_it_asks_for(
    tmp_path: Path, sampler: Sampler, sealing: str
) -> None:
    """From a backup to an undo with their safety copies: the real peak is what was asked."""
    with random_bench(tmp_path, sealing) as bench:
        for command in (Bench.run, verify, drill, restore_to, restore, undo):
            sampler.begin()
            start = bytes_below(tmp_path)
            run = command(bench)
            peaks = sampler.peaks()
            assert run.status == "succeeded", (command.__name__, run.error)
            for asked, taken in peaks:
                assert taken <= asked, (command.__name__, peaks)
            if command not in (restore, undo):  # which store what they replaced, if there is room
                most = max(before + asked_peak for before, asked_peak in _absolute(sampler))
                assert 0 < most - start <= peaks[0][0], (command.__name__, peaks)


def _absolute(sampler: Sampler) -> list[tuple[int, int]]:
    """What the folder had each time that a run asked, and what it took after that."""
    taken = [taken for _, taken in sampler.peaks()]
    return [(start, more) for (start, _, _), more in zip(sampler.asked, taken, strict=True)]


def test_a_backup_with_local_copies_stays_within_what_it_asks_for(
    tmp_path: Path, sampler: Sampler
) -> None:
    """The new local copy is moved there from staging, before an old one goes."""
    with open_bench(
        tmp_path,
        sources=[random_database(tmp_path / "data" / "tokens.db", MEGABYTES)],
        local_copies=1,
    ) as bench:
        for _ in range(2):
            sampler.begin()
            start = bytes_below(tmp_path)
            bench.made()
            most = max(before + taken for before, taken in _absolute(sampler))
            assert most - start <= sampler.asked[0][1]


@pytest.mark.parametrize("command", ["restore", "undo"])
def test_what_is_installed_leaves_staging_before_what_it_replaced_is_stored(
    tmp_path: Path, command: str
) -> None:
    """The fetched files are of no use any more, and the proof needs their room."""
    with open_bench(tmp_path) as bench:
        bench.made()
        if command == "undo":
            bench.restored()
        left: list[str] = []

        def look(progress: Progress) -> None:
            if progress.stage == "keep":
                left.extend(path.name for path in bench.staged()[0].iterdir())
                seen.append(progress.stage)

        seen: list[str] = []
        if command == "undo":
            bench.service.undo.begin(look).execute()
        else:
            bench.restored(progress=look)
        assert seen
        assert left == []


@pytest.mark.parametrize("sealing", SEALS)
def test_a_sealed_file_is_not_larger_than_was_expected(tmp_path: Path, sealing: str) -> None:
    """Also of an empty file, and of bytes that no compression makes smaller."""
    _, public = generate_key_pair()
    config = SealConfig(
        compression="zstd" if "zstd" in sealing else "none",
        recipients=(public,) * 3 if "age" in sealing else (),
    )
    for size in (0, 1, 4096, 65536, 300_000, 5_000_000):
        snapshot = tmp_path / f"{size}.db"
        snapshot.write_bytes(os.urandom(size))
        sealed = seal(snapshot, "", config, lambda _: None)
        if config.suffix:
            assert sealed.bytes <= most_sealed_bytes(size, config)
        else:
            assert most_sealed_bytes(size, config) == 0


def with_free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Give every disk this many free bytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free, total=free + 1))


def room_to_verify(bench: Bench) -> int:
    """What a proof of the newest set asks for: the databases are stored as they are."""
    made = bench.service.own_sets.required_latest()
    sizes = [stored.bytes for stored in made.objects]
    staging = bench.directory.staging_folder
    steps = [[Need(staging, sum(sorted(sizes)[-parallel.cpu_workers() :]))]]
    return Room("a proof", steps, bench.sources).needed(staging)


@pytest.mark.parametrize("command", [Bench.run, verify, drill, restore_to, restore, undo])
def test_what_has_no_room_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[Bench], Run]
) -> None:
    """A full disk is named with what is free and what is needed; no byte was read or written."""
    with open_bench(tmp_path, local_copies=0) as bench:
        bench.made()
        if command is undo:
            bench.restored()
        bench.watched.calls.clear()
        with_free_space(monkeypatch, RESERVE_BYTES + 1000)

        run = command(bench)

        assert run.error is not None
        assert run.error.code == "disk_full"
        assert f"{RESERVE_BYTES + 1000:,} bytes free, but" in run.error.message
        assert f"{RESERVE_BYTES:,} of them as a reserve" in run.error.message
        assert "BACKUP_DIR" in run.error.hint
        assert not [key for key in bench.watched.keys("get") if key.endswith(".db")]
        assert not [key for key in bench.watched.keys("put") if key.endswith(".db")]
        assert bench.staged() == []


def test_a_proof_is_refused_by_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last byte that it needs a proof begins, without it it does not."""
    with open_bench(tmp_path, local_copies=0) as bench:
        bench.made()
        needed = room_to_verify(bench)
        with_free_space(monkeypatch, needed - 1)
        refused = bench.verify()
        assert refused.error is not None
        assert f"needs {needed:,}" in refused.error.message
        with_free_space(monkeypatch, needed)
        assert bench.verify().status == "succeeded"


@pytest.mark.parametrize("stage", ["snapshot", "store", "proof"])
def test_a_backup_stops_before_it_takes_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """When others fill the disk meanwhile, the run stops with the message of a full disk."""
    with open_bench(tmp_path) as bench:

        def fill(progress: Progress) -> None:
            if progress.stage == stage:
                with_free_space(monkeypatch, RESERVE_BYTES - 1)

        run = bench.service.backup.begin(progress=fill).execute()

        assert run.error is not None
        assert run.error.code == "disk_full"
        assert "reserve" in run.error.message
        assert bench.manifests() == []


def test_a_comparison_stops_before_it_takes_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copies that a change run compares take no more than other copies."""
    with open_bench(tmp_path) as bench:
        bench.made()
        free = iter([10 * RESERVE_BYTES])
        monkeypatch.setattr(
            shutil,
            "disk_usage",
            lambda _: SimpleNamespace(free=next(free, RESERVE_BYTES - 1), total=1),
        )
        with pytest.raises(Exception, match="reserve"):
            bench.service.backup.begin_if_changed()


def test_a_disk_without_live_databases_has_no_reserve(tmp_path: Path) -> None:
    """A `BACKUP_DIR` on a disk of its own may be filled to the last byte."""
    elsewhere = Path(
        "/dev/shm" if tmp_path.stat().st_dev != Path("/dev/shm").stat().st_dev else "/"
    )
    source = Source("tokens", tmp_path / "tokens.db")
    room = Room("a proof", [[Need(elsewhere, 1000), Need(tmp_path, 500)]], [source])
    assert room.needed(tmp_path) - room.needed(elsewhere) == RESERVE_BYTES - 500


def test_the_bot_commits_while_runs_find_the_disk_full(tmp_path: Path) -> None:
    """On a real disk that the databases share: each command stops in time, each commit succeeds."""
    printed = run_on_small_disk(tmp_path, "size=100m", "tests.support.shared_disk", str(tmp_path))
    assert printed.split() == ["run", "disk_full", "restore", "disk_full", "drill", "disk_full"]
