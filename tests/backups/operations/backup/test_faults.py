"""Faults of network, disk, process and clock: what holds after each of them.

After every fault: no committed row is lost from the sources, no restore point fails its proof,
nothing is overwritten, the lease is free, no file is leaked, the next run succeeds, and the run
log tells the truth.
"""

from __future__ import annotations

import io
import random
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from backups.decisions.retention import RetentionPolicy
from backups.errors import LeaseHeld
from backups.model import Progress, Run, Source
from shared.clock import SystemClock
from shared.errors import AppError
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from shared.store.spaces import SpacesStore
from shared.store.spaces_access import SpacesSettings
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import add_rows, connect, count_rows, make_sources, write
from tests.support.fault_proxy import (
    Fault,
    FaultProxy,
    Method,
    cut,
    drop,
    flip_byte,
    hang,
    hangs,
    lose_answer,
    pretend,
    refuse,
    truncate,
)
from tests.support.listener import closed_port
from tests.support.records import INSTANT
from tests.support.run_process import Outcome, run_apart
from tests.support.s3_server import S3Server
from tests.support.slow_server import SlowPipe
from tests.support.store_wrappers import WatchedStore

_PATIENCE_SECONDS = 30.0  # on a busy machine, an honest server is slow, too
NOTHING = RetentionPolicy(changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0)


def open_files() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1


@dataclass
class Witness:
    """What there was before a fault, and must be there after it."""

    bench: Bench
    honest: ObjectStore
    tokens: int
    sessions: int
    stored: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, bench: Bench, honest: ObjectStore) -> Witness:
        """Look now; `honest` is the store without the fault in front of it."""
        seen = cls(bench, honest, count_rows(bench.tokens), count_rows(bench.sessions))
        seen.stored = seen.objects()
        return seen

    def objects(self) -> dict[str, bytes]:
        """All that is stored, by key."""

        found = {}
        for one in self.honest.list("backups/"):
            buffer = io.BytesIO()
            self.honest.get(one.key, buffer)
            found[one.key] = buffer.getvalue()
        return found

    def check(self, *, pruned: bool = False) -> None:
        """Everything that holds after every fault, once the fault is over."""
        bench = self.bench
        assert count_rows(bench.tokens) >= self.tokens
        assert count_rows(bench.sessions) >= self.sessions
        now = self.objects()
        for key, body in self.stored.items():
            assert now.get(key, body if pruned else b"") == body, key
        assert bench.directory.run_lease.is_free()
        assert bench.staged() == []
        assert bench.service.own_sets.refresh() is None
        for one in list(bench.service.catalogue.sets()):
            run = bench.service.verify.begin(one.id).execute()
            assert run.status == "succeeded", (one.id, run.error)
        assert bench.service.run_log.running() is None
        made = bench.made()
        assert made.proof == "full"


# --- the network ------------------------------------------------------------------------


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def honest(s3_server: S3Server, bucket: str) -> SpacesStore:
    """The bucket without a proxy."""
    return SpacesStore(s3_server.settings(bucket))


@pytest.fixture
def bench(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    s3_server: S3Server,
    bucket: str,
    proxy: FaultProxy,
    clock: FixedClock,
) -> Iterator[Bench]:
    """A service behind the proxy that keeps the newest set only."""
    case: Case = request.node.callspec.params["case"]
    store = WatchedStore(behind(proxy, s3_server.settings(bucket), case, _PATIENCE_SECONDS))
    with open_bench(tmp_path, store, clock=clock, retention=NOTHING, local_copies=0) as bench:
        yield bench


def behind(proxy: FaultProxy, settings: SpacesSettings, case: Case, patience: float) -> SpacesStore:
    """The bucket behind the proxy, which waits for an answer for so many seconds."""
    return SpacesStore(
        proxy.settings(settings),
        connect_timeout=_PATIENCE_SECONDS,
        read_timeout=patience,
        attempts=2 if case.times else 1,  # the pause between attempts is the SDK's, and long
    )


Operation = Literal["prune", "restore", "drill", "accept", "refresh"]


@dataclass(frozen=True)
class Case:
    """A fault, the requests that meet it, and the error; None when it is survived."""

    operation: Operation
    fault: Fault
    code: str | None
    method: Method | None = None
    key: str = ""
    times: int | None = None

    @property
    def patience(self) -> float:
        """How long an answer is waited for; only what hangs is to be waited out."""
        return 0.4 if hangs(self.fault) else _PATIENCE_SECONDS


SLOW_DOWN = refuse(503, "SlowDown")
CASES = {
    "prune, 500 for ever": Case("prune", refuse(500, "InternalError"), "store_failing"),
    "prune, no deleting": Case(
        "prune", refuse(403, "AccessDenied"), "store_access_denied", "DELETE"
    ),
    "prune, 503 once": Case("prune", SLOW_DOWN, None, "DELETE", times=1),
    "prune, 503 for ever": Case("prune", SLOW_DOWN, "store_failing", "DELETE", "tokens_"),
    "prune, dropped": Case("prune", drop(), "store_unreachable", "DELETE", "manifest"),
    "prune, answer lost": Case("prune", lose_answer(), None, "DELETE", times=1),
    "prune, answers lost": Case("prune", lose_answer(), "store_unreachable", "DELETE", "manifest"),
    "prune, not deleted": Case("prune", pretend(), None, "DELETE"),
    "prune, manifest not deleted": Case("prune", pretend(), None, "DELETE", "manifest"),
    "prune, hangs": Case("prune", hang(), "store_unreachable", "DELETE", "sessions_"),
    "prune, no heads": Case("prune", refuse(500, "InternalError"), "store_failing", "HEAD"),
    "prune, no list": Case("prune", SLOW_DOWN, "store_failing", "LIST"),
    "prune, clock skew": Case("prune", refuse(403, "RequestTimeTooSkewed"), "store_clock_skew"),
    "prune, expired": Case(
        "prune", refuse(400, "ExpiredToken"), "store_unknown_key", "DELETE", "sessions_"
    ),
    "restore, 500": Case("restore", refuse(500, "InternalError"), "store_failing", "GET"),
    "restore, 503 once": Case("restore", SLOW_DOWN, None, "GET", times=1),
    "restore, byte flipped": Case("restore", flip_byte(5000), "proof_failed", "GET", "tokens_"),
    "restore, cut short": Case("restore", truncate(4096), "proof_failed", "GET", "sessions_"),
    "restore, dropped": Case("restore", drop(), "store_unreachable", "GET", "sessions_"),
    "restore, cut": Case("restore", cut(4096), "store_unreachable", "GET", "sessions_"),
    "restore, reset": Case("restore", cut(4096, reset=True), "store_unreachable", "GET", "tokens_"),
    "restore, hangs": Case("restore", hang(), "store_unreachable", "GET", "tokens_"),
    "restore, expired": Case(
        "restore", refuse(400, "ExpiredToken"), "store_unknown_key", "GET", "sessions_"
    ),
    "restore, nothing stored of the old": Case(
        "restore", refuse(500, "InternalError"), None, "PUT"
    ),
    "drill, byte flipped": Case("drill", flip_byte(5000), "proof_failed", "GET", "sessions_"),
    "drill, dropped": Case("drill", drop(), "store_unreachable", "GET", "tokens_"),
    "drill, report not stored": Case("drill", SLOW_DOWN, None, "PUT"),
    "drill, 500 once": Case("drill", refuse(500, "InternalError"), None, times=1),
    "accept, dropped": Case("accept", drop(), "store_unreachable", "PUT"),
    "accept, not stored": Case("accept", pretend(), "proof_failed", "PUT"),
    "accept, answer lost": Case("accept", lose_answer(), None, "PUT", times=1),
    "refresh, 503": Case("refresh", SLOW_DOWN, "store_failing", "LIST"),
    "refresh, hangs": Case("refresh", hang(), "store_unreachable", "LIST"),
}


def do(bench: Bench, operation: Operation, newest: str) -> tuple[str, str | None]:
    """Carry an operation out; how it ended, and the code of its error."""
    run: Run
    try:
        if operation == "refresh":
            error = bench.service.own_sets.refresh()
            return ("failed", error.code) if error else ("succeeded", None)
        if operation == "accept":
            bench.service.acceptance.accept(newest)
            return "succeeded", None
        if operation == "prune":
            run = bench.prune()
        elif operation == "drill":
            run = bench.service.drill.begin().execute()
        else:
            run = bench.service.restore.begin(bench.service.restore.plan(newest)).execute()
    except AppError as error:
        return "failed", error.code
    assert bench.service.run_log.get(run.id) == run
    assert run.operation == operation
    return run.status, run.error.code if run.error else None


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_fault_of_the_network_is_survived_or_named(
    bench: Bench,
    s3_server: S3Server,
    bucket: str,
    proxy: FaultProxy,
    honest: SpacesStore,
    clock: FixedClock,
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prune, restore, drill, accept and refresh end well or by name, and lose nothing."""
    monkeypatch.setattr(bench.service.prune, "run_if_needed", lambda trigger: None)
    for _ in range(2):
        add_rows(bench.tokens, 5)
        newest = bench.made().id
        clock.advance(hours=1)
    monkeypatch.undo()
    add_rows(bench.tokens, 1 if case.operation != "restore" else 0)
    bench.service.own_sets.refresh()
    witness = Witness.of(bench, honest)
    files = open_files()
    proxy.on(case.fault, method=case.method, key=case.key, times=case.times)
    patient = bench.watched.inner
    bench.watched.inner = behind(proxy, s3_server.settings(bucket), case, case.patience)

    status, code = do(bench, case.operation, newest)

    bench.watched.inner = patient

    assert (status, code) == ("failed" if case.code else "succeeded", case.code)
    proxy.wait_until_met(1)
    proxy.lift()
    assert open_files() <= files + 4  # the pools of both clients keep a connection or two
    clock.advance(hours=1)
    witness.check(pruned=case.operation == "prune")


def test_a_store_that_nobody_serves_is_named(
    tmp_path: Path, s3_server: S3Server, bucket: str, honest: SpacesStore, clock: FixedClock
) -> None:
    """Connection refused: the run fails by name at once, and the next one elsewhere succeeds."""

    gone = replace(s3_server.settings(bucket), endpoint=f"http://127.0.0.1:{closed_port()}")
    with open_bench(tmp_path, SpacesStore(gone, attempts=2), clock=clock) as bench:
        run = bench.run("scheduled")
        assert run.error is not None
        assert (run.status, run.error.code, run.stage) == ("failed", "store_unreachable", "check")
        sources = bench.sources
    with open_bench(tmp_path, honest, clock=clock, sources=sources) as bench:
        Witness.of(bench, honest).check()


def test_one_byte_a_second_ends_at_the_deadline(
    tmp_path: Path,
    s3_server: S3Server,
    bucket: str,
    honest: SpacesStore,
    clock: FixedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that dribbles never times out by itself: `BACKUP_TIMEOUT` ends the run.

    The run's time stands still until the first byte trickles, however busy the machine is.
    """
    with SlowPipe(s3_server.endpoint) as pipe:
        began = time.monotonic()
        run_time = SimpleNamespace(
            monotonic=lambda: time.monotonic() if pipe.trickles.is_set() else began
        )
        monkeypatch.setattr("backups.runs.run.time", run_time)
        settings = replace(s3_server.settings(bucket), endpoint=pipe.endpoint)
        store = SpacesStore(settings, read_timeout=5, attempts=2)
        with open_bench(tmp_path, store, clock=clock, timeout=timedelta(seconds=1)) as bench:
            pipe.slow = True
            run = bench.run()
            pipe.slow = False

            assert run.error is not None
            assert (run.status, run.error.code, run.stage) == ("failed", "timeout", "proof")
            assert "BACKUP_TIMEOUT" in run.error.hint
            sources = bench.sources
    with open_bench(tmp_path, honest, clock=clock, sources=sources) as bench:
        Witness.of(bench, honest).check()


def test_a_slow_store_ends_at_the_deadline(
    tmp_path: Path,
    s3_server: S3Server,
    bucket: str,
    proxy: FaultProxy,
    honest: SpacesStore,
    clock: FixedClock,
) -> None:
    """Requests that each take long, but not too long, add up: the run ends as `timeout`."""
    store = SpacesStore(proxy.settings(s3_server.settings(bucket)), read_timeout=5, attempts=2)
    waiting = threading.Event()

    def slowly(faulty: FaultProxy, request: object) -> object:
        waiting.wait(0.15)
        return faulty.forward(request)  # type: ignore[arg-type]

    with open_bench(tmp_path, store, clock=clock, timeout=timedelta(seconds=0.4)) as bench:
        proxy.on(slowly)  # type: ignore[arg-type]
        run = bench.run()
        proxy.lift()

        assert run.error is not None
        assert (run.status, run.error.code) == ("failed", "timeout")
        assert bench.all_keys() == []
        assert bench.problems() == ["last_run_failed", "no_restore_point"]
        sources = bench.sources
    with open_bench(tmp_path, honest, clock=clock, sources=sources) as bench:
        Witness.of(bench, honest).check()


# --- this host's disk and limits --------------------------------------------------------


@contextmanager
def local(folder: Path) -> Iterator[Bench]:
    """The installation over which `run_apart` runs, on the real clock."""

    sources = (
        Source("tokens", folder / "data" / "tokens.db"),
        Source("sessions", folder / "data" / "sessions.db", volatile=True),
    )
    with open_bench(
        folder, DirectoryStore(folder / "store"), clock=SystemClock(), sources=sources
    ) as bench:
        yield bench


def check_afterwards(folder: Path, before: dict[str, bytes], rows: tuple[int, int]) -> None:
    """Everything that holds after every fault, for an installation in a folder."""
    honest = DirectoryStore(folder / "store")
    with local(folder) as bench:
        Witness(bench, honest, *rows, before).check()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with databases, a first set, and rows that came after it."""
    make_sources(tmp_path / "data", 40, padding=500)
    with local(tmp_path) as bench:
        bench.made()
    add_rows(tmp_path / "data" / "tokens.db", 3)
    return tmp_path


def stored(folder: Path) -> dict[str, bytes]:
    """All that is stored in an installation's folder, by key."""
    root = folder / "store" / "backups"
    return {
        path.relative_to(folder / "store").as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


ROWS = (43, 40)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["check", "snapshot", "store", "proof", "manifest"])
def test_a_full_disk_in_staging_is_named(installed: Path, stage: str) -> None:
    """A staging disk that fills up at any stage: `disk_full` or a good run, and nothing half."""
    before = stored(installed)

    ended = run_apart(
        installed, small_disk=installed / "data" / "backups" / "staging", fill_in_stage=stage
    )

    assert ended.exit_code == 0, ended.output
    if stage in ("store", "proof", "manifest"):  # nothing is staged after that, or in it
        assert ended.status == "succeeded" or ended.code == "disk_full"
    else:
        assert (ended.status, ended.code) == ("failed", "disk_full")
    check_afterwards(installed, before, ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["check", "store", "manifest"])
def test_a_full_disk_under_the_run_log_is_named(installed: Path, stage: str) -> None:
    """When not even the run log can be written, that is the error, and no run looks good by it."""
    before = stored(installed)

    ended = run_apart(installed, small_disk=installed / "data" / "backups", fill_in_stage=stage)

    assert ended.exit_code == 0, ended.output
    assert ended.code == "disk_full", ended.output
    check_afterwards(installed, before, ROWS)


def test_a_directory_that_may_not_be_written_is_named(installed: Path) -> None:
    """`BACKUP_DIR` read-only for the user of the app: a named error, nothing half."""
    open_to_all = Path(tempfile.mkdtemp(prefix="read-only-", dir="/tmp"))
    try:
        folder = open_to_all / "installation"
        shutil.copytree(installed, folder, symlinks=True)
        for path in (open_to_all, folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        for path in (folder / "data" / "backups", folder / "data" / "backups" / "staging"):
            path.chmod(0o555)
        before = stored(folder)

        ended = run_apart(folder, as_nobody=True)

        assert ended.exit_code == 0, ended.output
        assert ended.status in (None, "failed")
        assert ended.code in ("backup_dir_unusable", "database_unreadable"), ended.output
        for path in (folder / "data" / "backups", folder / "data" / "backups" / "staging"):
            path.chmod(0o755)
        check_afterwards(folder, before, ROWS)
    finally:
        shutil.rmtree(open_to_all)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 6, 8, 12])
def test_too_few_open_files_are_named(installed: Path, number: int) -> None:
    """Whatever step meets the limit, the run fails by a name or succeeds, and harms nothing."""
    before = stored(installed)

    ended = run_apart(installed, open_files=number)

    assert ended.exit_code == 0, ended.output
    assert ended.status == "succeeded" or ended.code, ended.output
    assert ended.code != "internal_error", ended.output
    if number == 0:
        assert ended.status != "succeeded"
    check_afterwards(installed, before, ROWS)


# --- the sources ------------------------------------------------------------------------


@pytest.fixture
def near(tmp_path: Path, clock: FixedClock) -> Iterator[Bench]:
    """A service over a folder, whose sources are large enough for several steps of copying."""
    sources = make_sources(tmp_path / "data", 3000, padding=2000)
    with open_bench(
        tmp_path, DirectoryStore(tmp_path / "store"), clock=clock, sources=sources
    ) as bench:
        yield bench


def run_with(bench: Bench, stage: str, act: Callable[[], None]) -> Run:
    """A run in which `act` happens once, at the first report of copying in a stage."""
    done: list[bool] = []

    def watch(progress: Progress) -> None:
        if progress.stage == stage and progress.source and not done:
            done.append(True)
            act()

    run = bench.service.backup.begin(progress=watch).execute()
    assert done
    return run


def test_a_source_replaced_during_the_run(near: Bench, clock: FixedClock) -> None:
    """Renaming another file over it: the set has the old content, whole, the next one the new."""
    (other, _) = make_sources(near.directory.path.parent / "other", 2999)

    run = run_with(near, "snapshot", lambda: (other.path.replace(near.tokens), None)[1])

    assert run.status == "succeeded"
    made = near.service.catalogue.get(run.set_id or "")
    assert made.objects[0].rows == {"tokens": 3000}
    clock.advance(minutes=1)
    assert near.made().objects[0].rows == {"tokens": 2999}
    Witness.of(near, near.store).check()


def test_a_source_deleted_during_the_run(near: Bench, clock: FixedClock) -> None:
    """The run that holds it open ends well with all rows; the next says that it is missing."""
    kept = near.tokens.with_name("kept.db")

    def lose() -> None:
        with closing(connect(near.tokens)) as source, closing(connect(kept)) as target:
            source.backup(target)
        near.tokens.unlink()

    run = run_with(near, "snapshot", lose)

    assert run.status == "succeeded"
    assert near.service.catalogue.get(run.set_id or "").objects[0].rows == {"tokens": 3000}
    clock.advance(minutes=1)
    missing = near.run()
    assert missing.error is not None
    assert missing.error.code == "database_missing"
    kept.replace(near.tokens)
    Witness.of(near, near.store).check()


def test_a_writer_that_never_stops(near: Bench) -> None:
    """Under writes without a pause the run ends, with every row committed before it began."""
    stop = threading.Event()
    written = [0]

    def hammer() -> None:
        with closing(sqlite3.connect(near.tokens, timeout=30, isolation_level=None)) as writer:
            while not stop.is_set():
                writer.execute("INSERT INTO tokens VALUES (hex(randomblob(16)), 'x', 0)")
                written[0] += 1

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        while written[0] < 20:
            stop.wait(0.01)
        before = written[0]
        made = near.made()
    finally:
        stop.set()
        thread.join()

    assert 3000 + before <= made.objects[0].rows["tokens"] <= 3000 + written[0]
    assert count_rows(near.tokens) == 3000 + written[0]
    Witness.of(near, near.store).check()


@pytest.mark.parametrize("mode", ["PASSIVE", "TRUNCATE"])
def test_a_checkpoint_during_the_snapshot(near: Bench, mode: str) -> None:
    """Writes and a checkpoint in the middle of the copying change nothing in the copy."""

    def disturb() -> None:
        add_rows(near.tokens, 50)
        with closing(sqlite3.connect(near.tokens, timeout=0, isolation_level=None)) as other:
            other.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()

    run = run_with(near, "snapshot", disturb)

    assert run.status == "succeeded"
    assert near.service.catalogue.get(run.set_id or "").objects[0].rows == {"tokens": 3000}
    assert count_rows(near.tokens) == 3050
    Witness.of(near, near.store).check()


@pytest.mark.slow
def test_no_file_stays_open_after_many_runs(near: Bench, clock: FixedClock) -> None:
    """Good and bad runs, verifications, prunes and drills leave as many open files as before."""
    near.made()
    files = open_files()
    for _ in range(5):
        clock.advance(minutes=1)
        near.made()
        near.service.verify.begin().execute()
        near.service.drill.begin().execute()
        near.prune()
        moved = near.tokens.rename(near.tokens.with_name("away.db"))
        assert near.run().status == "failed"
        moved.rename(near.tokens)

    assert open_files() == files


# --- the process ------------------------------------------------------------------------


def killed_at(folder: Path, moment: int, with_: signal.Signals) -> Outcome:
    """A run killed at that moment; everything holds afterwards."""
    before = stored(folder)
    rows = (count_rows(folder / "data" / "tokens.db"), count_rows(folder / "data" / "sessions.db"))
    ended = run_apart(folder, kill_at=moment, kill_with=with_)
    expected = -signal.SIGKILL if with_ == signal.SIGKILL else 128 + signal.SIGTERM
    assert ended.exit_code == expected, ended.output
    with local(folder) as bench:
        bench.service.status()
        last = bench.service.run_log.page(1)[0]
        assert last.status in ("interrupted", "succeeded")
        assert bench.service.own_sets.refresh() is None
        published = set(bench.stored_ids()) - {
            key.split("/")[2] for key in before if "sets/" in key
        }
        if last.error is not None and published:
            assert "Nothing was published" not in last.error.hint
    check_afterwards(folder, before, rows)
    return ended


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The moments of the second run of an installation, which nobody kills."""
    folder = tmp_path_factory.mktemp("moments")
    make_sources(folder / "data", 40, padding=500)
    with local(folder) as bench:
        bench.made()
    return moments_of(folder)


def moments_of(folder: Path) -> list[str]:
    """The moments of a run that nobody kills."""
    ended = run_apart(folder)
    assert ended.status == "succeeded", ended.output
    return ended.moments


@pytest.mark.slow
@pytest.mark.parametrize("with_", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("stage", ["check", "snapshot", "seal", "store", "proof", "manifest"])
def test_killed_at_a_stage_boundary(
    installed: Path, moments: list[str], stage: str, with_: signal.Signals
) -> None:
    """Ended as it enters any stage: the run is told as interrupted, and the next one is good."""
    killed_at(installed, moments.index(f"stage {stage}"), with_)


@pytest.mark.slow
def test_killed_at_random_moments(installed: Path, moments: list[str]) -> None:
    """Ten moments from the first to the last step: nothing is lost, whichever it is."""
    chosen = random.Random(20261122).sample(range(len(moments) - 2), 9)

    for number, moment in enumerate([*chosen, len(moments) - 3]):
        killed_at(installed, moment, signal.SIGTERM if number % 3 == 2 else signal.SIGKILL)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_soak_killed_at_five_hundred_random_moments(tmp_path: Path) -> None:
    """Five hundred runs, killed at random: trials, faults and losses (0) are printed."""
    seed = random.SystemRandom().randrange(10**9)
    chance = random.Random(seed)
    trials = losses = 0
    faults = {signal.SIGKILL: 0, signal.SIGTERM: 0}
    folder = tmp_path / "0"
    for trial in range(500):
        if trial % 25 == 0:  # begin anew, so that a trial does not get slower and slower
            shutil.rmtree(folder, ignore_errors=True)
            folder = tmp_path / str(trial)
            make_sources(folder / "data", 40, padding=500)
            with local(folder) as bench:
                bench.made()
            moments = moments_of(folder)
        add_rows(folder / "data" / "tokens.db", 1)
        with_ = chance.choice(list(faults))
        moment = chance.randrange(len(moments) - 2)
        try:
            killed_at(folder, moment, with_)
        except AssertionError as error:
            losses += 1
            print(f"seed {seed}, trial {trial}, moment {moments[moment]}: {error}")
        trials += 1
        faults[with_] += 1
    told = ", ".join(f"{number} {kind.name}" for kind, number in faults.items())
    print(
        f"\nseed {seed}: {trials} trials, {sum(faults.values())} faults ({told}), {losses} losses"
    )

    assert losses == 0


# --- the clock --------------------------------------------------------------------------


JUMPS = {
    "back an hour": (INSTANT, timedelta(hours=-1)),
    "back a year": (INSTANT, timedelta(days=-365)),
    "ahead a year": (INSTANT, timedelta(days=365)),
    "ahead ten years": (INSTANT, timedelta(days=3652)),
    "over midnight": (INSTANT.replace(hour=23, minute=59, second=59), timedelta(seconds=1)),
    "into a leap day": (datetime(2028, 2, 28, 23, 59, 59, tzinfo=UTC), timedelta(seconds=1)),
    "out of a leap day": (datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC), timedelta(seconds=1)),
    "over New Year": (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), timedelta(seconds=1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("stage", ["between", "check", "snapshot", "proof"])
def test_a_clock_that_jumps(tmp_path: Path, jump: tuple[datetime, timedelta], stage: str) -> None:
    """Between two runs or within one: both sets are made, whole, under keys of their own."""
    now, by = jump
    clock = FixedClock(now)
    store = DirectoryStore(tmp_path / "store")
    with open_bench(
        tmp_path, store, clock=clock, retention=RetentionPolicy(all_days=None)
    ) as bench:
        first = bench.made("scheduled")
        jumped: list[bool] = []

        def watch(progress: Progress) -> None:
            if progress.stage == stage and not jumped:
                jumped.append(True)
                clock.advance(seconds=by.total_seconds())

        if stage == "between":
            clock.advance(seconds=by.total_seconds())
        run = bench.service.backup.begin("scheduled", progress=watch).execute()

        assert run.status == "succeeded", run.error
        assert run.set_id != first.id
        assert len(bench.stored_ids()) == 2
        assert len(set(bench.data_keys())) == 4
        assert bench.service.status().last_run == run
        Witness.of(bench, store).check()


def test_a_clock_that_went_back_does_not_stop_the_schedule(
    tmp_path: Path, clock: FixedClock
) -> None:
    """After a clock that was a year ahead was set right, the sets of the future hold nothing up."""
    clock.advance(days=365)
    with open_bench(tmp_path, DirectoryStore(tmp_path / "store"), clock=clock) as bench:
        bench.made("scheduled")
        clock.advance(days=-365)
        run = bench.service.backup.run_if_owed("scheduled")

        assert run is not None
        assert run.status == "succeeded", run.error
        assert bench.service.own_sets.required_latest().id == run.set_id == bench.stored_ids()[0]
        assert bench.prune().status == "succeeded"
        assert len(bench.stored_ids()) == 2


def test_two_runs_asked_for_in_the_same_second(tmp_path: Path) -> None:
    """From two processes' services at once: one waits or is refused by name; ids differ."""
    store = DirectoryStore(tmp_path / "store")
    with (
        open_bench(tmp_path, store, clock=SystemClock()) as one,
        open_bench(tmp_path, store, clock=SystemClock(), sources=one.sources) as two,
        ThreadPoolExecutor(4) as pool,
    ):

        def ask(bench: Bench) -> str:
            try:
                run = bench.run()
            except LeaseHeld:
                return "held"
            assert run.status == "succeeded", run.error
            return run.set_id or ""

        answers = [one for one in pool.map(ask, [one, two, one, two]) if one != "held"]

        assert answers
        assert len(set(answers)) == len(answers)
        assert sorted(answers) == one.stored_ids()
        Witness.of(one, store).check()


def test_rows_are_what_the_witness_counts(near: Bench) -> None:
    """The witness of all tests above sees a lost row, a changed object and a held lease."""
    near.made()
    witness = Witness.of(near, near.store)
    write(near.tokens, "DELETE FROM tokens WHERE rowid = 7")
    with pytest.raises(AssertionError):
        witness.check()
    add_rows(near.tokens, 1)
    held = near.directory.run_lease.try_acquire()
    assert held is not None
    with pytest.raises(AssertionError):
        witness.check()
    held.release()
    key = near.data_keys()[0]
    path = Path(near.store.location) / key
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(AssertionError):
        witness.check()
