"""What the old cron scripts left: listed, grouped by date, proven, and restored."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

from backups.errors import NoRestorePoint
from shared.store.spaces import SpacesStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.generations import (
    LIVE_STATES,
    SOURCES,
    LiveStateName,
    bring_into,
    checkpoint,
    connect,
    generation_of,
    write_generation,
)
from tests.support.older_tokens import set_version
from tests.support.s3_server import S3Server
from tests.support.store_wrappers import put


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Live databases with `genlive`, and an empty store."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genlive")
        yield bench


def copy_of(folder: Path, source: str, name: str, *, page_size: int = 4096) -> bytes:
    """What `cp` makes of a database in WAL mode that an app has closed: the WAL flag is set."""
    folder.mkdir(parents=True, exist_ok=True)
    write_generation(folder, name)
    live = folder / "data" / f"{source}.db"
    if page_size != 4096:
        with closing(connect(live)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute(f"PRAGMA page_size={page_size}")
            connection.execute("VACUUM")
            connection.execute("PRAGMA journal_mode=WAL")
    checkpoint(live)
    copy = folder / f"copy-{source}.db"
    shutil.copyfile(live, copy)
    content = copy.read_bytes()
    assert content[18:20] == b"\x02\x02"
    return content


def put_group(bench: Bench, day: str, name: str, **options: int) -> None:
    """Store what the old scripts stored on a day."""
    for source in SOURCES:
        body = copy_of(bench.folder / "old" / name, source, name, **options)
        put(bench.store, f"{PREFIX}{source}_{day}.db", body)


def listed(bench: Bench) -> list[tuple[str, str, bool]]:
    """Id, kind and completeness of every restore point, newest first."""
    bench.service.own_sets.refresh()
    return [(one.id, one.kind, one.complete) for one in bench.service.catalogue.sets()]


def test_legacy_objects_are_listed_by_date(bench: Bench) -> None:
    """Each day with such objects is one restore point, the newest first, whole or not."""
    put_group(bench, "2025-07-04", "genold")
    put_group(bench, "2025-07-05", "gennew")
    put(bench.store, f"{PREFIX}tokens_2025-07-06.db", b"half a group")
    put(bench.store, f"{PREFIX}notes.txt", b"something else")
    put(bench.store, f"{PREFIX}tokens_2025-13-40.db", b"no day")
    assert listed(bench) == [
        ("legacy-2025-07-06", "legacy", False),
        ("legacy-2025-07-05", "legacy", True),
        ("legacy-2025-07-04", "legacy", True),
    ]
    found = bench.service.catalogue.get("legacy-2025-07-05")
    assert [stored.key for stored in found.objects] == [
        f"{PREFIX}tokens_2025-07-05.db",
        f"{PREFIX}sessions_2025-07-05.db",
    ]
    assert found.created_at.date().isoformat() == "2025-07-05"
    assert found.proof == "none"


def test_a_group_is_never_latest_and_the_newest_whole_one_is_named(bench: Bench) -> None:
    """Where there is nothing else the error has the line that restores it, but for half a group."""
    put(bench.store, f"{PREFIX}tokens_2025-07-06.db", b"half a group")
    with pytest.raises(NoRestorePoint):
        bench.service.restore.plan()
    put_group(bench, "2025-07-05", "gennew")
    with pytest.raises(NoRestorePoint, match="legacy-2025-07-05: the old scripts left it") as none:
        bench.service.restore.plan()
    assert "restore legacy-2025-07-05 --in-place --yes" in none.value.hint
    made = bench.made()
    assert bench.service.restore.plan().backup_set.id == made.id
    with pytest.raises(NoRestorePoint):
        bench.service.restore.plan(at=datetime(2025, 7, 6, tzinfo=UTC))


@pytest.mark.parametrize("page_size", [1024, 4096])
def test_a_group_is_restored_in_place_and_to_a_folder(bench: Bench, page_size: int) -> None:
    """A plain copy of a database in WAL mode is restored right, of any page size."""
    put_group(bench, "2025-07-04", "genold", page_size=page_size)
    bench.restored("legacy-2025-07-04", to=bench.folder / "target")
    for source in SOURCES:
        file = bench.folder / "target" / f"{source}.db"
        assert generation_of(file) == "genold"
        assert file.read_bytes()[18:20] == b"\x01\x01"  # self-contained: no -wal is looked for
    assert len(list((bench.folder / "target").iterdir())) == 2
    bench.restored("legacy-2025-07-04")
    assert bench.generations() == dict.fromkeys(SOURCES, "genold")
    bench.undo()
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


@pytest.mark.parametrize("state", LIVE_STATES)
def test_a_group_is_restored_in_every_state(bench: Bench, state: LiveStateName) -> None:
    """A legacy group brings back databases in whatever state they are."""
    put_group(bench, "2025-07-04", "genold")
    for source in SOURCES:
        bring_into(state, bench.live(source))
    bench.restored("legacy-2025-07-04")
    assert bench.generations() == dict.fromkeys(SOURCES, "genold")


def test_a_group_is_verified(bench: Bench) -> None:
    """A proof of a group opens both files, and its verdict stays beside it in the store."""
    put_group(bench, "2025-07-04", "genold")
    run = bench.service.verify.begin("legacy-2025-07-04").execute()
    assert run.status == "succeeded", run.error
    assert bench.service.catalogue.get("legacy-2025-07-04").proof == "full"
    with open_bench(
        bench.folder, settings={"BACKUP_DIR": str(bench.folder / "elsewhere")}
    ) as other:
        other.service.own_sets.refresh()
        assert other.service.catalogue.get("legacy-2025-07-04").proof == "full"
        assert other.service.restore.plan("legacy-2025-07-04").warnings == ()


@pytest.mark.parametrize("harm", ["cut", "garbage", "empty", "flipped page"])
def test_a_damaged_legacy_file_is_refused_and_marked(bench: Bench, harm: str) -> None:
    """Where no hash was noted, SQLite's own check decides; nothing live is touched."""
    put_group(bench, "2025-07-04", "genold")
    key = f"{PREFIX}sessions_2025-07-04.db"
    body = bench.bytes_of(key)
    bench.replace_object(
        key,
        {
            "cut": body[: len(body) - 4096],
            "garbage": zlib.compress(body),
            "empty": b"",
            "flipped page": body[:4096] + b"\xff" * 4096 + body[8192:],
        }[harm],
    )
    for to in (None, bench.folder / "target"):
        run = bench.restore("legacy-2025-07-04", to=to)
        assert run.error is not None
        assert run.error.code == "proof_failed"
        assert key in run.error.message
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")
    assert bench.service.verify.begin("legacy-2025-07-04").execute().status == "failed"
    assert bench.service.catalogue.get("legacy-2025-07-04").suspect
    with pytest.raises(NoRestorePoint):
        bench.service.restore.plan()


def test_half_a_group_is_restored_by_its_id(bench: Bench) -> None:
    """The one database of a day is restored, and the other is left alone."""
    put(
        bench.store,
        f"{PREFIX}tokens_2025-07-04.db",
        copy_of(bench.folder / "old", "tokens", "genold"),
    )
    bench.restored("legacy-2025-07-04")
    assert bench.generations() == {"tokens": "genold", "sessions": "genlive"}


def test_our_own_orphans_are_not_legacy(bench: Bench) -> None:
    """A dated object with our metadata that no manifest claims is no restore point."""
    body = copy_of(bench.folder / "old", "tokens", "genold")
    for source in SOURCES:
        bench.store.put(
            f"{PREFIX}{source}_2025-07-04.db",
            BytesIO(body),
            {"set-id": "20250704T010000Z", "sha256": "0" * 64, "instance": "gone"},
        )
    assert listed(bench) == []


def test_our_own_dated_objects_are_not_legacy(bench: Bench) -> None:
    """The day's first set takes dated keys too, and is listed as a set alone."""
    made = bench.made()
    assert made.objects[0].key == f"{PREFIX}tokens_{made.created_at:%Y-%m-%d}.db"
    assert listed(bench) == [(made.id, "set", True)]


def test_what_the_old_scripts_wrote_today_is_not_overwritten(bench: Bench) -> None:
    """With a legacy object under today's dated key the set takes timed keys; both are listed."""
    today = bench.service.clock.now()
    put_group(bench, f"{today:%Y-%m-%d}", "genold")
    made = bench.made()
    assert {stored.key for stored in made.objects} == {
        f"{PREFIX}{source}_{made.created_at:%Y-%m-%dT%H%M%SZ}.db" for source in SOURCES
    }
    assert {kind for _, kind, _ in listed(bench)} == {"set", "legacy"}
    bench.restored(f"legacy-{today:%Y-%m-%d}", accept_unsigned=True)
    assert bench.generations() == dict.fromkeys(SOURCES, "genold")


def test_each_object_is_asked_for_its_metadata_once(bench: Bench) -> None:
    """However often the catalogue is refreshed, there is one HEAD for each dated object."""
    put_group(bench, "2025-07-04", "genold")
    for _ in range(3):
        bench.service.own_sets.refresh()
    assert sorted(bench.watched.keys("head")) == [
        f"{PREFIX}sessions_2025-07-04.db",
        f"{PREFIX}tokens_2025-07-04.db",
    ]
    with open_bench(bench.folder, settings={}) as later:
        later.service.own_sets.refresh()
        assert later.watched.keys("head") == []


def test_a_refresh_fetches_only_what_is_new(bench: Bench) -> None:
    """Manifests, proofs and drills that are known are not fetched again."""
    made = bench.made()
    assert bench.service.drill.begin().execute().status == "succeeded"
    assert bench.service.verify.begin(made.id).execute().status == "succeeded"
    bench.service.own_sets.refresh()
    bench.watched.calls.clear()
    bench.service.own_sets.refresh()
    assert bench.watched.keys("get") == []


def test_a_group_that_goes_is_forgotten(bench: Bench) -> None:
    """An object that someone deleted or replaced is noticed at the next refresh."""
    put_group(bench, "2025-07-04", "genold")
    assert len(listed(bench)) == 1
    bench.store.delete(f"{PREFIX}sessions_2025-07-04.db")
    assert listed(bench) == [("legacy-2025-07-04", "legacy", False)]
    bench.store.delete(f"{PREFIX}tokens_2025-07-04.db")
    assert listed(bench) == []


def test_legacy_objects_in_a_real_bucket(tmp_path: Path, s3_server: S3Server, bucket: str) -> None:
    """What `aws s3 cp` stored is listed and restored from a real S3 server."""
    store = SpacesStore(s3_server.settings(bucket))
    with open_bench(tmp_path, settings={}, store=store) as bench:
        bench.write("genlive")
        client = s3_server.client()
        for source in SOURCES:
            body = copy_of(tmp_path / "old", source, "genold")
            client.put_object(Bucket=bucket, Key=f"{PREFIX}{source}_2025-07-04.db", Body=body)
        assert listed(bench) == [("legacy-2025-07-04", "legacy", True)]
        bench.restored("legacy-2025-07-04")
        assert bench.generations() == dict.fromkeys(SOURCES, "genold")


def test_a_legacy_file_without_a_schema_version_serves_the_app(bench: Bench) -> None:
    """The old app never set `user_version`; the storages bring such a file to today's schema."""
    write_generation(bench.folder / "old", "gennew")
    set_version(bench.folder / "old" / "data" / "tokens.db", 0)  # so that its values are as then
    for source in SOURCES:
        path = bench.folder / f"old-{source}.db"
        path.write_bytes(copy_of(bench.folder / "old", source, "genold"))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA user_version=0")
        checkpoint(path)
        put(bench.store, f"{PREFIX}{source}_2025-07-04.db", path.read_bytes())
    bench.restored("legacy-2025-07-04")
    write_generation(bench.folder, "genafter")
    assert bench.generations() == dict.fromkeys(SOURCES, "genafter")
