"""Tests of `backups.service`: how a run fails when something below it does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path

import pytest

from backups.model import Progress, Source
from shared.errors import StoreError
from tests.backups.conftest import LogLines
from tests.support.bench import MANIFEST, SESSIONS, TOKENS, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import connect, make_database
from tests.support.store_wrappers import Operation, WatchedStore, fail, put


@dataclass(frozen=True)
class Broken:
    """A call of the store that fails, and the stage of the run in which that happens."""

    operation: Operation
    key: str
    stage: str


BROKEN = [
    Broken("check", "instances/", "check"),
    Broken("list", "tokens", "store"),
    Broken("list", "sessions", "store"),
    Broken("put", TOKENS, "store"),
    Broken("put", SESSIONS, "store"),
    Broken("get", TOKENS, "proof"),
    Broken("get", SESSIONS, "proof"),
    Broken("put", MANIFEST, "manifest"),
]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: f"{one.operation} {one.key}")
def test_a_failure_at_any_call_is_told_and_leaves_nothing(
    bench: Bench, store: WatchedStore, broken: Broken, moment: str
) -> None:
    """Wherever the store fails, before or after it acted: no set, no rest, and a good next run."""
    interfere = store.before if moment == "before" else store.after
    interfere(broken.operation, broken.key, fail)

    run = bench.run("scheduled")

    assert (run.status, run.set_id, run.stage) == ("failed", None, broken.stage)
    assert run.error is not None
    assert (run.error.code, run.error.message) == ("store_unreachable", "there was no answer")
    assert bench.service.run_log.get(run.id) == run
    assert bench.service.status().last_run == run
    assert not bench.service.status().health.healthy
    assert bench.staged() == []
    assert bench.service.directory.copies() == []
    assert bench.is_free()
    assert list(bench.service.catalogue.sets()) == []
    if broken.stage == "manifest":
        # Whether the manifest is there is not known, so its objects must stay.
        assert sorted(bench.data_keys()) == sorted([TOKENS, SESSIONS])
    else:
        assert bench.all_keys() == []

    assert bench.made().protects


def locked(bench: Bench) -> Callable[[], None]:
    holder = connect(bench.sources[1].path)
    holder.execute("BEGIN IMMEDIATE")
    return holder.close


def missing(bench: Bench) -> Callable[[], None]:
    path = bench.sources[0].path
    kept = path.rename(path.with_name("kept.db"))
    return lambda: (kept.rename(path), None)[1]


def corrupt(bench: Bench) -> Callable[[], None]:
    path = bench.sources[0].path
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * 4096 + content[8192:])
    return lambda: (path.write_bytes(content), None)[1]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(locked, "database_locked"), (missing, "database_missing"), (corrupt, "database_corrupt")],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_source_that_fails_leaves_the_others_stored(
    tmp_path: Path,
    store: WatchedStore,
    clock: FixedClock,
    spoil: Callable[[Bench], Callable[[], None]],
    code: str,
) -> None:
    """One bad source: the run fails by its name, and the good one is an incomplete set."""
    with open_bench(tmp_path, store, clock=clock, busy_timeout=0.1) as bench:
        repair = spoil(bench)

        run = bench.run()

        assert run.status == "failed"
        assert run.error is not None
        assert run.error.code == code
        (made,) = bench.service.catalogue.sets()
        assert made.id in run.error.message
        assert (made.complete, made.proof, made.protects) == (False, "full", False)
        assert len(made.objects) == 1
        assert not bench.service.status().health.healthy
        assert bench.staged() == []
        repair()
        assert bench.made().protects


def test_what_is_damaged_is_sent_once_and_taken_back(bench: Bench, store: WatchedStore) -> None:
    """SQLite's check goes on while the copies are sent. The other source is stored without it; the
    next run, as long as one fails, has its copies checked before it sends any."""
    repair = corrupt(bench)

    run = bench.run()

    assert run.error is not None
    assert (run.error.code, run.stage) == ("database_corrupt", "snapshot")
    assert str(bench.tokens) in run.error.message
    assert "restore --only tokens" in run.error.hint
    (made,) = bench.service.catalogue.sets()
    assert {key for key in store.keys("put") if "tokens" in key} == {TOKENS}
    assert bench.data_keys() == [stored.key for stored in made.objects]
    store.calls.clear()
    assert bench.run().error is not None
    assert [key for key in store.keys("put") if "tokens" in key] == []
    repair()
    assert bench.made().protects


@pytest.mark.parametrize("only", ["tokens", None])
def test_where_all_is_damaged_nothing_stays_in_the_store(bench: Bench, only: str | None) -> None:
    """Each is found in its turn; the run fails by the first, and publishes no empty set."""
    for source in bench.sources:
        content = source.path.read_bytes()
        source.path.write_bytes(content[:4096] + b"\xa5" * 4096 + content[8192:])

    run = bench.run(only=only)

    assert run.error is not None
    assert (run.error.code, run.stage) == ("database_corrupt", "snapshot")
    assert "source tokens" in run.error.message
    assert bench.all_keys() == []


def test_errors_of_a_source_show_nothing_of_its_rows(
    tmp_path: Path, store: WatchedStore, clock: FixedClock, log_lines: LogLines
) -> None:
    """A damaged database full of secrets is reported without one of them, anywhere."""
    secret = "shpat_4a1f-this-must-not-be-seen"
    path = make_database(tmp_path / "tokens.db", 200)
    with closing(connect(path)) as connection:
        connection.execute("UPDATE tokens SET value = ?, key = key || ?", (secret, secret))
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[4096 * page : 4096 * page + 40] = b"\xa5" * 40
    path.write_bytes(bytes(content))
    sources = (Source("tokens", path),)
    with open_bench(
        tmp_path, store, clock=clock, sources=sources, log_directory=tmp_path / "logs"
    ) as bench:
        run = bench.run()

        assert run.error is not None
        assert run.error.code == "database_corrupt"
        assert secret not in repr(run)
        assert secret not in log_lines.text()
        assert secret not in repr(bench.service.status())
    for file in (*(tmp_path / "logs").iterdir(), *bench.directory.path.glob("runs.db*")):
        assert secret.encode() not in file.read_bytes(), file


def test_a_full_disk_fails_the_run_by_name(bench: Bench) -> None:
    """No room left while a file is being written is `disk_full`, in whatever stage."""

    def full(progress: Progress) -> None:
        if progress.stage == "proof" and progress.done:
            raise OSError(ENOSPC, "No space left on device", str(bench.directory.path / "staging"))

    run = bench.service.backup.begin(progress=full).execute()

    assert (run.status, run.stage) == ("failed", "proof")
    assert run.error is not None
    assert run.error.code == "disk_full"
    assert str(bench.directory.path) in run.error.message
    assert bench.all_keys() == []


def test_a_fault_of_the_program_ends_the_run_too(bench: Bench, log_lines: LogLines) -> None:
    """What nobody foresaw is recorded as `internal_error`, with the traceback in the log only."""

    def bug(progress: Progress) -> None:
        if progress.stage == "proof":
            raise KeyError("a fault with shpat_secret in it")

    run = bench.service.backup.begin(progress=bug).execute()

    assert run.status == "failed"
    assert run.error is not None
    assert run.error.code == "internal_error"
    assert "shpat_secret" not in repr(run)
    assert any(record.exc_info for record in log_lines.records)
    assert bench.all_keys() == []
    assert bench.staged() == []
    assert bench.made().protects


def test_a_store_whose_manifest_reads_back_differently_fails_the_run(
    bench: Bench, store: WatchedStore, tmp_path: Path
) -> None:
    """The manifest itself is read back: a set that cannot be found again is no success."""

    def change() -> None:
        (tmp_path / "store" / MANIFEST).write_text("{}")

    store.after("put", MANIFEST, change)

    run = bench.run()

    assert run.status == "failed"
    assert run.error is not None
    assert run.error.code == "proof_failed"
    assert bench.service.catalogue.newest_protecting() is None
    bench.service.own_sets.refresh()
    assert bench.service.catalogue.newest_protecting() is None


def test_objects_of_others_are_never_taken_back(
    bench: Bench, store: WatchedStore, tmp_path: Path
) -> None:
    """A failing run deletes what carries its own mark, also when a key changed hands."""

    def replace_and_fail() -> None:
        store.delete(TOKENS)
        put(store, TOKENS)
        fail()

    store.before("get", TOKENS, replace_and_fail)

    assert bench.run().status == "failed"
    assert bench.all_keys() == [TOKENS]
    assert bench.bytes_of(TOKENS) == b"of another"


def test_what_cannot_be_taken_back_is_told(
    bench: Bench, store: WatchedStore, log_lines: LogLines
) -> None:
    """A delete that fails too leaves the object, a warning, and the first error as the reason."""

    def no_delete() -> None:
        raise StoreError("deleting is not allowed")

    store.before("get", TOKENS, fail)
    store.before("delete", SESSIONS, no_delete)

    run = bench.run()

    assert run.error is not None
    assert run.error.code == "store_unreachable"
    assert bench.all_keys() == [SESSIONS]
    assert (
        "an object of the failed run could not be deleted: deleting is not allowed"
        in log_lines.text()
    )
    assert bench.made().protects
