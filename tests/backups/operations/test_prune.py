"""Tests of `backups.operations.prune`: a prune interrupted anywhere, and a sweep that spares."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.decisions.retention import RetentionPolicy
from backups.format import naming
from backups.model import BackupSet, Trigger
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from shared.store.spaces import SpacesStore
from tests.backups.conftest import LogLines
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.records import a_manifest, a_set
from tests.support.s3_server import S3Server
from tests.support.store_wrappers import WatchedStore

NOTHING = RetentionPolicy(changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0)


@pytest.fixture
def clock() -> FixedClock:
    """The real time of now, standing still: objects have the times of the real clock.

    The sets of one test, a minute apart, are of one day of UTC.
    """
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    if start.date() != (start + timedelta(minutes=15)).date():
        start -= timedelta(minutes=15)
    return FixedClock(start)


@pytest.fixture(params=["directory", pytest.param("spaces", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> WatchedStore:
    """Both stores, one after the other: the folder, and a bucket of a real S3 server."""
    inner: ObjectStore
    if request.param == "directory":
        inner = DirectoryStore(tmp_path / "store")
    else:
        server, name = (request.getfixturevalue(fixture) for fixture in ("s3_server", "bucket"))
        inner = SpacesStore(server.settings(name))
    return WatchedStore(inner)


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """A service that makes sets, and whose policy is the default: it drops none of them yet."""
    with open_bench(tmp_path, store, clock=clock) as bench:
        yield bench


@pytest.fixture
def strict(bench: Bench, tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """The same installation under a policy that keeps the newest set only."""
    with open_bench(
        tmp_path, store, clock=clock, sources=bench.sources, retention=NOTHING
    ) as strict:
        yield strict


def make_some(bench: Bench, clock: FixedClock, number: int = 3) -> list[BackupSet]:
    """Sets a minute apart; one of them has a verdict beside it."""
    made = []
    for _ in range(number):
        made.append(bench.made())
        clock.advance(minutes=1)
    bench.service.verify.begin(made[0].id).execute()
    return made


def keys_of(one: BackupSet, bench: Bench) -> set[str]:
    """Everything that belongs to a set."""
    folder = f"{PREFIX}sets/{one.id}/"
    return {stored.key for stored in one.objects} | {
        key for key in bench.all_keys() if key.startswith(folder)
    }


def every_listed_set_is_whole(bench: Bench) -> None:
    """A set that the store lists has all its objects, and they pass their proof."""
    assert bench.service.own_sets.refresh() is None
    keys = set(bench.all_keys())
    for one in bench.service.catalogue.sets():
        assert {stored.key for stored in one.objects} <= keys, one.id
        assert bench.service.verify.begin(one.id).execute().status == "succeeded"


def put(bench: Bench, key: str, body: bytes = b"left behind", /, **metadata: str) -> str:
    """Store an object as somebody else would, or as a run of ours that died."""
    named = {name.replace("_", "-"): value for name, value in metadata.items()}
    bench.store.put(key, io.BytesIO(body), named)
    file = Path(bench.store.location) / key
    if file.exists():  # not in a bucket, whose server has the clock of the test
        now = datetime.now(UTC).timestamp()
        os.utime(file, times=(now, now))
    return key


# --- dropping ---------------------------------------------------------------------------


def test_a_prune_removes_all_of_a_set_and_nothing_else(
    bench: Bench, strict: Bench, clock: FixedClock
) -> None:
    """Objects, manifest and verdicts of the dropped sets go; the kept one is untouched."""
    made = make_some(bench, clock)
    kept = {key: bench.bytes_of(key) for key in keys_of(made[-1], bench)}

    run = strict.prune()

    assert (run.status, run.operation, run.error) == ("succeeded", "prune", None)
    assert strict.everything() == kept
    assert [one.id for one in strict.service.catalogue.sets()] == [made[-1].id]


def test_the_manifest_goes_first(
    bench: Bench, strict: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Of each set the manifest is deleted before any of its objects."""
    made = make_some(bench, clock)
    expected = {one.id: keys_of(one, bench) for one in made[:-1]}
    store.calls.clear()

    strict.prune()

    deleted = store.keys("delete")
    assert set(deleted) == set.union(*expected.values())
    for set_id, keys in expected.items():
        own = [key for key in deleted if key in keys]
        assert own[0] == naming.manifest_key(PREFIX, set_id)


@pytest.mark.parametrize("store", ["directory"], indirect=True)
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(7))
def test_a_prune_that_is_interrupted_is_finished_by_the_next(
    bench: Bench,
    strict: Bench,
    store: WatchedStore,
    clock: FixedClock,
    number: int,
    done: bool,
) -> None:
    """Whichever delete fails, done or not, no half set is listed and the next prune ends it."""
    made = make_some(bench, clock)
    kept = {key: bench.bytes_of(key) for key in keys_of(made[-1], bench)}
    store.calls.clear()
    store.break_at("delete", number, done=done)

    run = strict.prune()

    assert run.status == "failed"
    assert run.error is not None
    assert run.error.code == "store_unreachable"
    store.mend()
    every_listed_set_is_whole(strict)
    assert kept.items() <= strict.everything().items()
    clock.advance(minutes=1)
    assert strict.prune().status == "succeeded"
    assert {key: body for key, body in strict.everything().items() if "/proof-" not in key} == kept


@pytest.mark.parametrize("number", range(1, 4))
def test_a_set_that_took_the_freed_keys_keeps_its_data(
    bench: Bench, strict: Bench, store: WatchedStore, clock: FixedClock, number: int
) -> None:
    """The answer to a delete is lost, the day's next set takes the free keys: it is untouched."""
    doomed = bench.made()
    clock.advance(minutes=1)
    bench.made()
    store.calls.clear()
    store.break_at("delete", number - 1, done=True)
    assert strict.prune().status == "failed"
    store.mend()
    clock.advance(minutes=1)
    newest = bench.made()
    taken = {one.key for one in newest.objects} & {one.key for one in doomed.objects}
    assert taken or number < 3, "the last delete has freed the dated keys"
    before = {one.key: bench.bytes_of(one.key) for one in newest.objects}

    assert strict.prune().status == "succeeded"

    assert before.items() <= strict.everything().items()
    every_listed_set_is_whole(strict)
    assert {one.id for one in strict.service.catalogue.sets()} == {newest.id}


@pytest.mark.parametrize("store", ["directory"], indirect=True)
@pytest.mark.parametrize("metadata", [{}, {"set_id": "20250101T000000Z"}], ids=["none", "another"])
def test_an_object_that_does_not_say_that_it_is_the_sets_is_kept_and_named(
    bench: Bench,
    strict: Bench,
    store: WatchedStore,
    clock: FixedClock,
    log_lines: LogLines,
    metadata: dict[str, str],
) -> None:
    """What lies under a key of a dropped set, without its metadata, is somebody else's."""
    dropped = make_some(bench, clock, 2)[0]
    key = dropped.objects[0].key
    body = bytes(dropped.objects[0].bytes)
    store.inner.delete(key)
    put(bench, key, body, **metadata)

    run = strict.prune()

    assert run.error is not None
    assert (run.status, run.error.code) == ("failed", "prune_incomplete")
    assert key in run.error.message
    assert bench.bytes_of(key) == body
    assert key in log_lines.text()
    assert dropped.objects[1].key not in bench.all_keys()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_manifest_that_does_not_say_that_it_is_the_sets_keeps_the_set(
    bench: Bench, strict: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """A set whose manifest lost its metadata is not proven ours: nothing of it is deleted."""
    spared = make_some(bench, clock, 2)[0]
    key = naming.manifest_key(PREFIX, spared.id)
    document = bench.bytes_of(key)
    store.inner.delete(key)
    store.inner.put(key, io.BytesIO(document), {})
    before = bench.everything()

    run = strict.prune()

    assert run.error is not None
    assert (run.status, run.error.code) == ("failed", "prune_incomplete")
    assert key in run.error.message
    assert before.items() <= strict.everything().items()
    assert spared.id in strict.stored_ids()


def test_a_set_that_was_spared_is_whole(
    bench: Bench, strict: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """When the policy grows after a prune failed at a manifest, its set stays with all objects."""
    made = make_some(bench, clock)
    store.calls.clear()
    store.break_at("delete", 0)
    strict.prune()
    store.mend()

    assert bench.prune().status == "succeeded"

    assert bench.stored_ids() == [one.id for one in made]
    every_listed_set_is_whole(bench)


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_another_host_finishes_what_a_dead_one_began(
    bench: Bench, strict: Bench, store: WatchedStore, clock: FixedClock, tmp_path: Path
) -> None:
    """With the records lost, the sweep removes after a day what the prune had left."""
    made = make_some(bench, clock)
    store.calls.clear()
    store.break_at("delete", 1)
    strict.prune()
    store.mend()
    with open_bench(
        tmp_path, store, clock=clock, sources=bench.sources, directory="new-host"
    ) as other:
        other.facts.succeed(made[0].instance)
        clock.advance(hours=25)
        assert other.prune().status == "succeeded"

        listed = list(other.service.catalogue.sets())
        claimed = {stored.key for one in listed for stored in one.objects}
        assert set(other.data_keys()) == claimed
        assert len(listed) == 2


def test_a_failing_prune_leaves_a_good_run_green(
    bench: Bench,
    strict: Bench,
    store: WatchedStore,
    clock: FixedClock,
    log_lines: LogLines,
) -> None:
    """The run succeeded, status is healthy and nobody is alarmed; the prune has its own run."""
    make_some(bench, clock)
    store.calls.clear()
    store.break_at("delete", 0)

    run = strict.run("scheduled")

    assert (run.status, run.error) == ("succeeded", None)
    assert [(one.operation, one.status) for one in strict.service.run_log.page(2)] == [
        ("prune", "failed"),
        ("backup", "succeeded"),
    ]
    assert strict.problems() == []
    assert strict.notes.messages == []
    assert strict.notes.heartbeats == 1
    assert "delete" in log_lines.text()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_store_that_cannot_be_listed_drops_nothing(
    bench: Bench, strict: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """A prune that does not know what there is deletes nothing."""
    make_some(bench, clock)
    before = bench.everything()
    store.calls.clear()
    store.break_at("list", 0)

    assert strict.prune().status == "failed"

    assert store.keys("delete") == []
    store.mend()
    assert bench.everything() == before


@pytest.mark.parametrize("trigger", ["scheduled", "manual", "catch-up"])
def test_a_good_run_prunes_by_itself(
    bench: Bench, strict: Bench, clock: FixedClock, trigger: Trigger
) -> None:
    """After a run the retention policy is carried out without being asked; its own run says what
    began it."""
    make_some(bench, clock)

    made = strict.made(trigger)

    assert strict.stored_ids() == [made.id]
    (pruned,) = strict.service.run_log.page(1)
    assert (pruned.operation, pruned.trigger) == ("prune", trigger)


# --- the sweep --------------------------------------------------------------------------


def orphan(bench: Bench, name: str = "tokens_2026-01-01T000000Z.db", **metadata: str) -> str:
    """An object that a run of this installation put, and never published."""
    return put(
        bench,
        f"{PREFIX}{name}",
        **{
            "set_id": "20260101T000000Z",
            "instance": bench.directory.instance(),
            "sha256": "a" * 64,
            **metadata,
        },
    )


def test_orphans_go_after_a_day(bench: Bench, clock: FixedClock) -> None:
    """What our dead run left stays for 24 hours, in which it might be somebody's, then goes."""
    made = bench.made()
    left = [
        orphan(bench),
        orphan(bench, "sessions_2026-01-01.db.zst.age"),
        orphan(bench, "sets/20260101T000000Z/proof-20260101T000001Z.json"),
    ]
    clock.advance(hours=23)
    assert bench.prune().status == "succeeded"
    assert set(left) <= set(bench.all_keys())

    clock.advance(hours=2)
    assert bench.prune().status == "succeeded"

    assert set(bench.all_keys()) == keys_of(made, bench)


def test_what_is_not_ours_is_never_swept(bench: Bench, clock: FixedClock) -> None:
    """Legacy and foreign objects, other instances' orphans and all claimed ones stay for ever."""
    made = bench.made()
    spared = {
        put(bench, f"{PREFIX}tokens_2025-07-04.db"),
        put(bench, f"{PREFIX}sessions_2025-07-04.db"),
        put(bench, f"{PREFIX}tokens_2025-07-05T010000Z.db"),
        put(bench, f"{PREFIX}notes.txt", set_id="x", instance=bench.directory.instance()),
        put(bench, f"{PREFIX}deep/tokens_2025-07-04.db"),
        put(bench, f"{PREFIX}tokens_2025-07-06.db", sha256="a" * 64),
        orphan(bench, "tokens_2025-07-07.db", instance="another"),
        orphan(bench, "sets/20250101T000000Z/proof-20250101T000001Z.json", instance="another"),
        put(bench, f"{PREFIX}sets/legacy-2025-07-04/proof-20250801T000001Z.json"),
    }
    clock.advance(days=30)

    assert bench.prune().status == "succeeded"

    assert spared | keys_of(made, bench) == set(bench.all_keys())


@pytest.mark.parametrize("listings", ["all", "of sets"])
@pytest.mark.parametrize("lacks", ["one manifest", "the end"])
def test_a_listing_that_lacks_manifests_costs_no_set_anything(
    bench: Bench,
    store: WatchedStore,
    clock: FixedClock,
    tmp_path: Path,
    lacks: str,
    listings: str,
) -> None:
    """A host that knows nothing but a false listing asks for each manifest by name, and spares."""
    made = make_some(bench, clock)
    hidden = naming.manifest_key(PREFIX, made[0].id)
    before = bench.everything()
    clock.advance(days=2)
    with open_bench(
        tmp_path, store, clock=clock, sources=bench.sources, directory="new-host"
    ) as other:
        other.facts.succeed(made[0].instance)

        def unlisted(prefix: str, key: str) -> bool:
            if listings == "of sets" and not prefix.endswith("sets/"):
                return False
            return key == hidden if lacks == "one manifest" else key >= hidden

        store.unlisted = unlisted
        other.prune()

    store.unlisted = lambda _prefix, _key: False
    assert bench.everything() == before


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_listing_that_lacks_a_known_set_drops_nothing(
    bench: Bench, strict: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """A set that the listing lacks and the store has by name: the prune fails, and deletes
    nothing."""
    made = make_some(bench, clock)
    hidden = naming.manifest_key(PREFIX, made[1].id)
    before = bench.everything()
    store.unlisted = lambda _prefix, key: key == hidden

    run = strict.prune()

    assert run.error is not None
    assert run.error.code == "store_listing_incomplete"
    assert made[1].id in run.error.message
    store.unlisted = lambda _prefix, _key: False
    assert bench.everything() == before


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_an_object_that_cannot_be_looked_at_is_spared_and_named(
    bench: Bench, store: WatchedStore, clock: FixedClock, log_lines: LogLines
) -> None:
    """Where one HEAD is refused, that object stays, and the sweep goes on with the others."""
    bench.made()
    refused, swept = orphan(bench), orphan(bench, "tokens_2026-01-02T000000Z.db")
    clock.advance(days=2)
    store.refused = {refused}

    assert bench.prune().status == "succeeded"

    assert refused in bench.all_keys()
    assert swept not in bench.all_keys()
    assert refused in log_lines.text()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_where_a_manifest_cannot_be_asked_for_nothing_of_its_set_is_swept(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Only a clear "there is none" makes an orphan: a refusal does not."""
    bench.made()
    left = orphan(bench)
    clock.advance(days=2)
    store.refused = {naming.manifest_key(PREFIX, "20260101T000000Z")}

    assert bench.prune().status == "succeeded"

    assert left in bench.all_keys()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_manifest_that_cannot_be_read_stops_the_sweep(
    bench: Bench, clock: FixedClock, log_lines: LogLines
) -> None:
    """Nobody knows what an unreadable manifest claims, so nothing is swept, and that is told."""
    bench.made()
    left = orphan(bench)
    put(bench, f"{PREFIX}sets/20260202T000000Z/manifest.json")
    clock.advance(days=2)

    assert bench.prune().status == "succeeded"

    assert left in bench.all_keys()
    assert "no orphan is deleted" in log_lines.text()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_manifest_of_a_newer_version_stops_the_sweep(bench: Bench, clock: FixedClock) -> None:
    """The objects of a set that only a newer program can read are not orphans."""
    bench.made()
    at = datetime(2026, 2, 2, tzinfo=UTC)
    newer = a_manifest(a_set(at)).replace(b'"format": 1', b'"format": 2')
    assert b'"format": 2' in newer
    bench.store.put(f"{PREFIX}sets/{naming.set_id(at)}/manifest.json", io.BytesIO(newer), {})
    theirs = orphan(bench, "tokens_2026-02-02.db")
    clock.advance(days=2)

    bench.prune()

    assert theirs in bench.all_keys()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_set_of_another_host_that_appears_meanwhile_is_no_orphan(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """Between listing and deleting the manifests are read anew, so what they claim stays."""
    bench.made()
    instance = bench.directory.instance()
    at = datetime(2026, 2, 2, tzinfo=UTC)
    late = a_set(at, instance=instance)
    for stored in late.objects:
        put(bench, stored.key, set_id=late.id, instance=instance)
    clock.advance(days=2)
    publish = naming.manifest_key(PREFIX, late.id)

    def appear() -> None:
        store.inner.put(publish, io.BytesIO(a_manifest(late)), {})

    store.before("list", f"{PREFIX}sets/", appear)
    assert bench.prune().status == "succeeded"

    assert {stored.key for stored in late.objects} <= set(bench.all_keys())


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_sweep_happens_once_a_day(bench: Bench, store: WatchedStore, clock: FixedClock) -> None:
    """A run with nothing to drop prunes when the last sweep is a day ago, and else does not."""
    bench.made()
    clock.advance(hours=1)
    store.calls.clear()
    bench.made("change")
    assert store.keys("abort") == []

    clock.advance(hours=24)
    bench.made("scheduled")

    assert len(store.keys("abort")) == 1


def test_staged_puts_of_dead_processes_go_after_a_day(tmp_path: Path) -> None:
    """In a folder an unfinished upload is a staged file: older than a day it goes."""
    clock = FixedClock(datetime.now(UTC))
    with open_bench(tmp_path, DirectoryStore(tmp_path / "store"), clock=clock) as bench:
        bench.made()
        staging = tmp_path / "store" / ".staging"
        old, young = staging / "old", staging / "young"
        for path, hours in ((old, 25), (young, 23)):
            path.write_bytes(b"half")
            then = (clock.now() - timedelta(hours=hours)).timestamp()
            os.utime(path, (then, then))

        assert bench.prune().status == "succeeded"

        assert not old.exists()
        assert young.exists()


def test_unfinished_uploads_are_aborted_after_a_day(
    tmp_path: Path, s3_server: S3Server, bucket: str
) -> None:
    """An upload under a key of ours stays a day, as it may be running, then goes; no other."""
    client = s3_server.client()
    clock = FixedClock(datetime.now(UTC))
    foreign = ["elsewhere/tokens_2026-01-01.db", f"{PREFIX}holiday.mov"]
    keys = [f"{PREFIX}tokens_2026-01-01.db", *foreign]
    for key in keys:
        begun = client.create_multipart_upload(Bucket=bucket, Key=key)
        client.upload_part(
            Bucket=bucket, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * 5_242_880
        )

    def unfinished() -> list[str]:
        found = client.list_multipart_uploads(Bucket=bucket)
        return sorted(one["Key"] for one in found.get("Uploads", []))

    store = SpacesStore(s3_server.settings(bucket))
    with open_bench(tmp_path, store, clock=clock) as bench:
        bench.made()
        clock.advance(hours=23)
        assert bench.prune().status == "succeeded"
        assert unfinished() == sorted(keys)

        clock.advance(hours=2)
        assert bench.prune().status == "succeeded"

        assert unfinished() == sorted(foreign)


def test_staged_files_of_dead_runs_go_at_once(tmp_path: Path, clock: FixedClock) -> None:
    """What a killed process left in `BACKUP_DIR` is gone when the next run is over."""
    with open_bench(tmp_path, DirectoryStore(tmp_path / "store"), clock=clock) as bench:
        left = bench.directory.path / "staging" / "20260101T000000Z-dead"
        left.mkdir()
        (left / "tokens.db").write_bytes(b"half")

        bench.made()

        assert bench.staged() == []
