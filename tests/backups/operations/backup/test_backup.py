"""Tests of `backups.service`: what a run makes, and what is known of it afterwards."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backups.config import SealConfig
from backups.errors import SourceUnknown
from backups.model import Progress, ProofLevel, Source, StoredObject
from backups.sets import proof
from backups.sets.proof import ProofTools
from shared.store.directory import DirectoryStore
from tests.backups.conftest import LogLines
from tests.support.bench import MANIFEST, SESSIONS, TOKENS, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import connect, count_rows, make_database, make_sources
from tests.support.records import INSTANT, a_manifest, a_set
from tests.support.store_wrappers import WatchedStore, fail, put


def test_the_first_set_of_a_day_is_stored_proven_and_recorded(
    either_bench: Bench, tmp_path: Path
) -> None:
    """Both objects are under the dated keys, SQLite opens them, and manifest and log agree."""
    bench = either_bench

    run = bench.run("scheduled")

    assert (run.status, run.error, run.set_id) == ("succeeded", None, "20261122T010000Z")
    assert sorted(bench.all_keys()) == sorted([TOKENS, SESSIONS, MANIFEST])
    assert bench.service.run_log.get(run.id) == run
    assert bench.staged() == []
    assert bench.is_free()
    made = bench.service.catalogue.get("20261122T010000Z")
    assert made.protects
    assert (made.created_at, made.proven_at, made.trigger) == (INSTANT, INSTANT, "scheduled")
    manifest = bench.json_of(MANIFEST)
    assert [stored["key"] for stored in manifest["objects"]] == [TOKENS, SESSIONS]
    for source, key, stored in zip(bench.sources, (TOKENS, SESSIONS), made.objects, strict=True):
        content = bench.bytes_of(key)
        (tmp_path / "fetched.db").write_bytes(content)
        assert count_rows(tmp_path / "fetched.db", source.name) == 3
        assert sorted(path.name for path in tmp_path.glob("fetched*")) == ["fetched.db"]
        digest = hashlib.sha256(content).hexdigest()
        assert (stored.bytes, stored.sha256) == (len(content), digest)
        assert (stored.snapshot_bytes, stored.snapshot_sha256) == (len(content), digest)
        assert stored.rows == {source.name: 3}
        assert bench.store.head(key).metadata == {
            "set-id": made.id,
            "instance": made.instance,
            "sha256": digest,
        }


def test_a_second_run_leaves_the_first_set_untouched(
    either_bench: Bench, clock: FixedClock
) -> None:
    """Later on the same UTC day the keys have the time, and the first objects stay as they are."""
    bench = either_bench
    bench.made()
    before = {key: (bench.bytes_of(key), bench.store.head(key)) for key in bench.all_keys()}
    clock.advance(hours=3, minutes=30)
    with closing(connect(bench.sources[0].path)) as connection:
        connection.execute("INSERT INTO tokens VALUES ('new', 'value', 0)")

    second = bench.made()

    assert [stored.key for stored in second.objects] == [
        "backups/tokens_2026-11-22T043000Z.db",
        "backups/sessions_2026-11-22T043000Z.db",
    ]
    assert second.objects[0].rows == {"tokens": 4}
    for key, was in before.items():
        assert (bench.bytes_of(key), bench.store.head(key)) == was
    assert len(bench.all_keys()) == 6


def test_the_next_day_has_dated_keys_again(bench: Bench, clock: FixedClock) -> None:
    """A new UTC day begins with dated keys."""
    bench.made()
    clock.advance(days=1)

    assert [stored.key for stored in bench.made().objects] == [
        "backups/tokens_2026-11-23.db",
        "backups/sessions_2026-11-23.db",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "tokens_2026-11-22.db",
        "tokens_2026-11-22.db.zst",
        "tokens_2026-11-22.db.zst.age",
        "tokens_2026-11-22.db.gz",
        "tokens_2026-11-22",
        "sessions_2026-11-22.db",
        "sessions_2026-11-22.db.zst",
    ],
)
def test_a_legacy_object_of_today_pushes_the_whole_set_aside(bench: Bench, name: str) -> None:
    """If one dated stem is taken, whatever its suffix, both files take timed keys."""
    put(bench.store, f"backups/{name}")

    made = bench.made()

    assert [stored.key for stored in made.objects] == [
        "backups/tokens_2026-11-22T010000Z.db",
        "backups/sessions_2026-11-22T010000Z.db",
    ]
    assert bench.bytes_of(f"backups/{name}") == b"of another"
    assert len(bench.all_keys()) == 4


@pytest.mark.parametrize(
    "name",
    [
        "tokens_2026-11-21.db",
        "tokens_2026-11-22T000000Z.db",
        "orders_2026-11-22.db",
        "sub/tokens_2026-11-22.db",
    ],
)
def test_an_object_elsewhere_is_not_in_the_way(bench: Bench, name: str) -> None:
    """Other days, timed keys and sources that are not ours leave the dated keys free."""
    put(bench.store, f"backups/{name}")

    assert [stored.key for stored in bench.made().objects] == [TOKENS, SESSIONS]


@pytest.mark.parametrize("raced", [TOKENS, SESSIONS])
def test_a_key_that_is_taken_meanwhile_moves_the_whole_set(
    either_bench: Bench, either_store: WatchedStore, raced: str
) -> None:
    """Another's object between listing and put: all timed, ours taken back, theirs untouched."""
    bench = either_bench
    either_store.before("put", raced, lambda: put(either_store, raced))

    made = bench.made()

    assert [stored.key for stored in made.objects] == [
        "backups/tokens_2026-11-22T010000Z.db",
        "backups/sessions_2026-11-22T010000Z.db",
    ]
    assert bench.bytes_of(raced) == b"of another"
    other = {TOKENS, SESSIONS} - {raced}
    assert not other & set(bench.all_keys())


def test_a_run_that_finds_no_free_key_fails_and_overwrites_nothing(
    bench: Bench, store: WatchedStore
) -> None:
    """When the keys of this second and of the next are taken, too, the run fails by name and takes
    its own back."""
    timed = [f"backups/sessions_2026-11-22T01000{second}Z.db" for second in (0, 1)]
    for key in (SESSIONS, *timed):
        put(store, key)

    run = bench.run()

    assert run.status == "failed"
    assert run.error is not None
    assert run.error.code == "object_exists"
    assert timed[1] in run.error.message
    assert sorted(bench.all_keys()) == sorted([SESSIONS, *timed])
    assert {bench.bytes_of(key) for key in (SESSIONS, *timed)} == {b"of another"}


def test_two_runs_in_one_second_have_different_ids(bench: Bench) -> None:
    """An id that exists makes the run wait for the next second."""
    first, second, third = bench.made(), bench.made(), bench.made()

    assert [one.id for one in (first, second, third)] == [
        "20261122T010000Z",
        "20261122T010001Z",
        "20261122T010002Z",
    ]
    assert first.created_at < second.created_at < third.created_at
    assert len(bench.manifests()) == 3


def test_an_id_that_another_host_took_is_not_taken_again(bench: Bench, store: WatchedStore) -> None:
    """A manifest of this second that is not in the catalogue yet stays; the set is of the next."""
    theirs = a_manifest(a_set(instance="another"))
    put(store, MANIFEST, theirs)

    made = bench.made()

    assert made.id == "20261122T010001Z"
    assert bench.bytes_of(MANIFEST) == theirs
    assert set(bench.data_keys()) == {stored.key for stored in made.objects}


def test_a_manifest_of_another_host_is_never_overwritten(bench: Bench, store: WatchedStore) -> None:
    """Nor one that another host puts at the last moment; and of two in a row the run says so."""
    theirs = a_manifest(a_set(instance="another"))
    store.before("put", MANIFEST, lambda: put(store, MANIFEST, theirs))
    after = MANIFEST.replace("010000Z", "010001Z")
    store.before("put", after, lambda: put(store, after, theirs))

    run = bench.run()

    assert (run.status, run.stage) == ("failed", "manifest")
    assert run.error is not None
    assert run.error.code == "object_exists"
    assert (bench.bytes_of(MANIFEST), bench.bytes_of(after)) == (theirs, theirs)
    assert bench.data_keys() == []
    assert bench.made().id == "20261122T010002Z"


def test_the_manifest_is_written_last_and_after_the_proof(
    either_bench: Bench, either_store: WatchedStore
) -> None:
    """Each object is read back from the store before the manifest, which is the last put."""
    either_bench.made()

    calls = either_store.calls
    *data, last = [key for key in either_store.keys("put") if "/instances/" not in key]
    assert (sorted(data), last) == (sorted([TOKENS, SESSIONS]), MANIFEST)  # these go side by side
    manifest = calls.index(("put", MANIFEST))
    for key in (TOKENS, SESSIONS):
        assert calls.index(("put", key)) < calls.index(("get", key)) < manifest
    assert [call for call in calls[manifest + 1 :] if call != ("get", MANIFEST)] == []


@pytest.mark.parametrize(("processors", "computing"), [(2, "the run"), (3, "worker")])
def test_what_computes_leaves_the_bot_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, computing: str
) -> None:
    """On two processors a run works on one source after the other, on more on two at once.

    Sending, where it mostly waits, goes side by side on both.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    seen: dict[str, set[str]] = {}
    real = proof.read_back

    def see(progress: Progress) -> None:
        if progress.source:
            seen.setdefault(progress.stage, set()).add(threading.current_thread().name)

    def read_back(tools: ProofTools, stored: StoredObject) -> ProofLevel:
        seen.setdefault("proof of an object", set()).add(threading.current_thread().name)
        return real(tools, stored)

    store = DirectoryStore(tmp_path / "store")
    with open_bench(tmp_path, store, seal=SealConfig("zstd")) as bench:
        monkeypatch.setattr(proof, "read_back", read_back)
        started = bench.service.backup.begin(progress=see)
        run = threading.Thread(target=started.execute, name="the run")
        run.start()
        run.join()
        assert bench.service.status().last_success is not None

    assert seen["snapshot"] == seen["seal"] == seen["proof of an object"] == {computing}
    assert seen["store"] == {"worker"}


def test_a_set_of_one_source_is_listed_and_does_not_protect(bench: Bench) -> None:
    """`--only` makes an incomplete set, which `latest` does not mean and no local copy is of."""
    made = bench.made(only="sessions")

    assert [stored.source for stored in made.objects] == ["sessions"]
    assert not made.complete
    assert not made.protects
    assert list(bench.service.catalogue.sets()) == [made]
    assert bench.service.catalogue.newest_protecting() is None
    assert bench.service.directory.copies() == []
    assert [one.code for one in bench.service.status().health.problems] == ["no_restore_point"]


def test_an_unknown_source_is_refused_before_anything_happens(
    bench: Bench, store: WatchedStore
) -> None:
    """`--only` with a name that is none says which there are, and starts no run."""
    with pytest.raises(SourceUnknown) as caught:
        bench.run(only="orders")

    assert "tokens, sessions" in caught.value.hint
    assert bench.service.run_log.page(9) == []
    assert store.calls == []
    assert bench.is_free()


def test_more_sources_are_stored_in_the_same_set(
    tmp_path: Path, store: WatchedStore, clock: FixedClock
) -> None:
    """Extra sources are in the set, and one that is not in WAL mode is a warning in status."""
    orders = make_database(tmp_path / "orders.db", 5, journal_mode="delete")
    sources = (*make_sources(tmp_path / "data"), Source("orders", orders))
    with open_bench(tmp_path, store, clock=clock, sources=sources) as bench:
        made = bench.made()

        assert made.protects
        assert [stored.source for stored in made.objects] == ["tokens", "sessions", "orders"]
        assert [stored.same_instant for stored in made.objects] == [True, True, False]
        assert made.objects[2].rows == {"orders": 5}
        codes = [one.code for one in bench.service.status().health.warnings]
        assert "not_wal" in codes


def test_local_copies_hold_the_stored_bytes(either_bench: Bench, clock: FixedClock) -> None:
    """The newest two sets are also on this host, private, byte for byte as they were stored."""
    bench = either_bench
    made = []
    for _ in range(3):
        made.append(bench.made())
        clock.advance(minutes=1)

    assert bench.service.directory.copies() == [made[2].id, made[1].id]
    for one in made[1:]:
        for stored in one.objects:
            copy = bench.service.directory.copy_of(one.id, stored.source)
            assert copy.read_bytes() == bench.bytes_of(stored.key)
            assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_no_file_of_the_installation_is_open_to_others(bench: Bench, tmp_path: Path) -> None:
    """After a run all that it left, in the store and in `BACKUP_DIR`, is 0600 and 0700."""
    bench.made()

    for path in (*bench.directory.path.rglob("*"), *(tmp_path / "store").rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_log_files_have_the_lines_of_their_source_and_of_the_run(
    tmp_path: Path, store: WatchedStore, clock: FixedClock, log_lines: LogLines
) -> None:
    """Each source has its own file with what was stored and proven, and how the run ended."""
    logs = tmp_path / "logs"
    with open_bench(tmp_path, store, clock=clock, log_directory=logs) as bench:
        run = bench.run()

    assert sorted(path.name for path in logs.iterdir()) == [
        "backup_sessions.log",
        "backup_tokens.log",
    ]
    for name, other, key in (("tokens", "sessions", TOKENS), ("sessions", "tokens", SESSIONS)):
        path = logs / f"backup_{name}.log"
        text = path.read_text()
        for event in ("snapshot", "stored", "proven"):
            assert f"INFO backups.{name}: {event}" in text
        assert f"key={key}" in text
        assert "backups.run: backup succeeded" in text
        assert f"run={run.id}" in text
        assert f"backups.{other}" not in text
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_log_files_tell_of_a_failure(
    tmp_path: Path, store: WatchedStore, clock: FixedClock, log_lines: LogLines
) -> None:
    """The reason of a failed run is in the log files of all sources."""
    logs = tmp_path / "logs"
    store.before("put", TOKENS, fail)
    with open_bench(tmp_path, store, clock=clock, log_directory=logs) as bench:
        bench.run()

    for name in ("tokens", "sessions"):
        text = (logs / f"backup_{name}.log").read_text()
        assert "there was no answer" in text
        assert "store_unreachable" in text


def test_a_new_host_lists_the_same_sets(
    either_bench: Bench, either_store: WatchedStore, tmp_path: Path, clock: FixedClock
) -> None:
    """With nothing but the settings, another `BACKUP_DIR` has the same catalogue."""
    bench = either_bench
    for _ in range(3):
        bench.made()
        clock.advance(hours=5)
    bench.made(only="tokens")
    bench.verify()
    listed = bench.service.list_sets(100)

    with open_bench(
        tmp_path, either_store, clock=clock, directory="new-host", sources=bench.sources
    ) as other:
        assert other.service.list_sets(100) == ([], False)
        assert other.service.own_sets.refresh() is None

        assert other.service.list_sets(100) == listed
        assert len(listed[0]) == 4
        # Each host has a name of its own, and the sets keep that of their maker.
        assert other.made().instance != listed[0][0].instance


def test_a_listing_comes_in_pages(bench: Bench, clock: FixedClock) -> None:
    """Page after page gives every set once, and says whether there are more."""
    made = []
    for _ in range(5):
        made.append(bench.made().id)
        clock.advance(minutes=1)

    first, more = bench.service.list_sets(2)
    second, still_more = bench.service.list_sets(2, before=first[-1].id)
    last, no_more = bench.service.list_sets(2, before=second[-1].id)

    assert [one.id for page in (first, second, last) for one in page] == made[::-1]
    assert (more, still_more, no_more) == (True, True, False)


def test_status_and_lists_do_not_ask_the_store(bench: Bench, store: WatchedStore) -> None:
    """They are answered from this host's records, so a dead store does not hang them."""
    made = bench.made()
    store.calls.clear()

    status = bench.service.status()
    bench.service.list_sets(9)
    bench.service.list_runs(9)

    assert store.calls == []
    assert status.newest_restore_point == made
    assert status.restore_points == 1
    assert status.health.healthy
    assert status.last_contact_at == INSTANT
    assert status.next_run_at == INSTANT + timedelta(days=1)
    assert status.last_run == status.last_success == bench.service.run_log.page(1)[0]


def test_a_refresh_that_fails_says_why_and_changes_nothing(
    bench: Bench, store: WatchedStore
) -> None:
    """The error is returned for the interface to show, beside what the records know."""
    made = bench.made()
    store.before("list", "", fail)

    error = bench.service.own_sets.refresh()

    assert error is not None
    assert error.code == "store_unreachable"
    assert bench.service.list_sets(9) == ([made], False)
