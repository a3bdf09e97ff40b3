"""Sets that carry no mark of ours: never chosen, counted or pruned, and restored only by name."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.errors import NoRestorePoint, RestoreBlocked, SetNotNamed
from backups.format import naming
from backups.model import BackupSet
from backups.view import restore_text
from shared.errors import DatabaseMissing
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.generations import SOURCES, bring_into, live_path
from tests.support.installation import installation_in
from tests.support.marks import MARK_KEY, TOKEN_ENCRYPTION_KEY, a_token_key
from tests.support.records import INSTANT

THIEF = "f" * 32


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT)


@pytest.fixture
def bench(tmp_path: Path, clock: FixedClock) -> Iterator[Bench]:
    """An installation with the data `genlive`, and no set."""
    with open_bench(tmp_path, settings={}, clock=clock) as opened:
        opened.write("genlive")
        yield opened


def plant(bench: Bench, of: BackupSet, at: datetime, **changes: Any) -> str:
    """Put a manifest without a mark, which claims the objects of a set, or copies of them where
    their keys cannot be its own; its id."""
    document = {**bench.manifest_of(of.id), **changes}
    del document["mac"]
    for stored in document["objects"]:
        if not naming.is_own_key(PREFIX, stored["source"], at, stored["key"]):
            body = bench.bytes_of(stored["key"])
            stored["key"] = naming.data_key(PREFIX, stored["source"], at, dated=False)
            _put(bench, stored["key"], body)
    document |= {"id": naming.set_id(at), "instant": at.isoformat().replace("+00:00", "Z")}
    document["proven_at"] = document["instant"]
    _put(bench, bench.manifest_key(document["id"]), json.dumps(document).encode())
    return str(document["id"])


def plant_with_trigger(bench: Bench, of: BackupSet, at: datetime) -> str:
    """Plant a whole set of its own objects: a `sessions.db` with a trigger for its author."""
    objects = []
    for stored in bench.manifest_of(of.id)["objects"]:
        body = bench.bytes_of(stored["key"])
        if stored["source"] == "sessions":
            path = bench.folder / "planted.db"
            path.write_bytes(body)
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(
                    "CREATE TRIGGER thief AFTER INSERT ON sessions BEGIN SELECT 1; END"
                )
                connection.commit()
            body = path.read_bytes()
        key = naming.data_key(PREFIX, stored["source"], at, dated=False)
        _put(bench, key, body)
        objects.append({**stored, "key": key})
    return plant(bench, of, at, objects=objects)


def _put(bench: Bench, key: str, body: bytes) -> None:
    bench.store.put(key, io.BytesIO(body), {"set-id": "", "instance": THIEF})


def make_unsigned(bench: Bench, set_id: str) -> None:
    """Leave a set as the version before stored it: without a mark."""
    document = bench.manifest_of(set_id)
    del document["mac"]
    bench.replace_manifest(set_id, json.dumps(document).encode())
    bench.service.catalogue.refresh()


def test_a_planted_set_is_never_chosen_or_counted(bench: Bench, clock: FixedClock) -> None:
    """A newer planted set, in our name or in another one, is listed, and is nothing else: not
    `latest`, `--at`, a baseline, a fulfilment of the schedule, a drill's target or a number."""
    ours = bench.made("scheduled")
    clock.advance(hours=30)
    soon = clock.now() - timedelta(minutes=1)
    planted = {
        plant(bench, ours, soon, sequence=2**50),
        plant(bench, ours, soon - timedelta(minutes=1), instance=THIEF),
    }
    service = bench.service
    service.catalogue.refresh()

    assert planted < {one.id for one in service.catalogue.sets()}
    assert service.restore.plan().backup_set.id == ours.id
    assert service.restore.plan(at=clock.now()).backup_set.id == ours.id
    assert service.own_sets.newest_made() == service.catalogue.get(ours.id)
    assert service.own_sets.is_owed("scheduled")
    status = service.status()
    assert status.newest_restore_point is not None
    assert status.newest_restore_point.id == ours.id
    assert status.restore_points == 1
    assert "overdue" in bench.problems()
    assert service.drill.begin().execute().set_id == ours.id
    assert bench.made().sequence == (ours.sequence or 0) + 1


def test_a_marked_set_that_lost_its_objects_is_named_before_a_planted_one(
    bench: Bench, clock: FixedClock
) -> None:
    """Who deletes our objects and plants a set does not make it look like the only one."""
    ours = bench.made()
    clock.advance(hours=1)
    planted = plant(bench, ours, clock.now() - timedelta(minutes=10), instance=THIEF)
    bench.store.delete(ours.objects[0].key)
    bench.service.catalogue.refresh()

    with pytest.raises(NoRestorePoint) as caught:
        bench.service.restore.plan()
    assert f"{ours.id}, lacks objects in the store" in caught.value.message
    assert caught.value.message.index(ours.id) < caught.value.message.index(planted)
    assert caught.value.hint.startswith("See what is wrong: ./bot backups status.")


def test_status_counts_them_and_names_the_line(bench: Bench, clock: FixedClock) -> None:
    """The warning has the number, and the command that makes them count."""
    ours = bench.made()
    clock.advance(hours=1)
    planted = plant(bench, ours, clock.now(), instance=THIEF)
    bench.service.catalogue.refresh()

    found = {one.code: one for one in bench.service.status().health.warnings}
    assert f"1 set of installation {THIEF} (the newest: {planted})" in (
        found["sets_unsigned"].message
    )
    assert f"./bot backups adopt {THIEF} --accept-unsigned" in found["sets_unsigned"].hint


def test_a_planted_set_is_never_pruned_and_stands_for_no_period(
    bench: Bench, clock: FixedClock
) -> None:
    """A manifest that claims the objects of our set keeps neither them nor itself in the way: our
    set of the day stays, no object of it is deleted, and the planted one waits for a person."""
    ours = bench.made()
    before = bench.everything()
    clock.advance(hours=1)
    planted = plant(bench, ours, clock.now())
    clock.advance(days=400)
    newest = bench.made()

    assert bench.prune().status == "succeeded"

    assert {ours.id, planted, newest.id} <= set(bench.stored_ids())
    assert before.items() <= bench.everything().items()
    kept = {one.backup_set.id: one.reasons for one in bench.service.own_sets.plan_prune().keep}
    assert kept[planted] == ("it has no mark: never deleted automatically",)


def test_a_planted_size_pushes_out_no_set_of_ours(tmp_path: Path, clock: FixedClock) -> None:
    """BACKUP_KEEP_MAX_BYTES is counted without what an unsigned manifest says of its size."""
    with open_bench(
        tmp_path, settings={"BACKUP_KEEP_MAX_BYTES": "100000000"}, clock=clock
    ) as bench:
        bench.write("genlive")
        ours = bench.made()
        clock.advance(hours=1)
        newest = bench.made()
        objects = [{**one, "bytes": 10**12} for one in bench.manifest_of(ours.id)["objects"]]
        clock.advance(hours=1)
        plant(bench, ours, clock.now(), objects=objects)
        bench.service.catalogue.refresh()
        plan = bench.service.own_sets.plan_prune()
        assert plan.drop == ()
        assert plan.warning is None
        assert {ours.id, newest.id} <= {one.backup_set.id for one in plan.keep}


def test_a_planted_set_is_missed_by_nobody(bench: Bench, clock: FixedClock) -> None:
    """It may lack its objects, and vanish again: that is no loss of ours."""
    ours = bench.made()
    clock.advance(hours=1)
    objects = bench.manifest_of(ours.id)["objects"]
    for one in objects:
        one["key"] = naming.data_key(PREFIX, one["source"], clock.now(), dated=False)
    planted = plant(bench, ours, clock.now(), objects=objects)
    bench.service.catalogue.refresh()
    assert bench.service.own_sets.missing_points() == ()
    bench.store.delete(bench.manifest_key(planted))
    bench.service.catalogue.refresh()
    assert bench.service.own_sets.missing_points() == ()


def test_restore_on_empty_does_not_take_a_planted_trigger_unasked(
    bench: Bench, clock: FixedClock
) -> None:
    """With a set of ours the planted one is passed over; without one the start stops, and names
    it with the line to type."""
    ours = bench.made()
    clock.advance(hours=1)
    planted = plant_with_trigger(bench, ours, clock.now())
    bench.forget_copies()
    for source in SOURCES:
        bring_into("missing", bench.live(source))
    run = bench.service.restore_on_empty.restore_missing()
    assert run is not None
    assert run.set_id == ours.id

    bench.store.delete(bench.manifest_key(ours.id))
    bench.service.catalogue.refresh()
    for source in SOURCES:
        bring_into("missing", bench.live(source))
    with pytest.raises(DatabaseMissing, match=f"The newest: {planted}") as stopped:
        bench.service.restore_on_empty.restore_missing()
    line = f"./bot backups restore {planted} --in-place --yes --accept-unsigned"
    assert line in stopped.value.hint
    assert not any(live_path(bench.folder, source).exists() for source in SOURCES)


def test_restore_on_empty_begins_empty_in_an_empty_store(bench: Bench) -> None:
    """A store without a point of any kind is that of a new installation."""
    for source in SOURCES:
        bring_into("missing", bench.live(source))
    assert bench.service.restore_on_empty.restore_missing() is None


def test_where_all_are_unsigned_the_error_names_the_newest(bench: Bench, clock: FixedClock) -> None:
    """`restore` stops with one message: which set and legacy group are the newest, of which
    version, and the line for each."""
    made = bench.made()
    make_unsigned(bench, made.id)
    body = bench.bytes_of(made.objects[0].key)
    for source in SOURCES:
        _put_legacy(bench, source, body)
    with pytest.raises(NoRestorePoint) as none:
        bench.service.restore.plan()
    assert f"{made.id} of 2026-11-22T01:00:00Z (installation {made.instance}, gpt-" in (
        none.value.message
    )
    assert "legacy-2025-07-04: the old scripts left it" in none.value.message
    assert f"restore {made.id} --in-place --yes --accept-unsigned" in none.value.hint
    assert "restore legacy-2025-07-04 --in-place --yes." in none.value.hint
    with pytest.raises(NoRestorePoint):
        bench.service.verify.begin()
    with pytest.raises(NoRestorePoint):
        bench.service.restore.plan(at=clock.now())


def _put_legacy(bench: Bench, source: str, body: bytes) -> None:
    bench.store.put(f"{PREFIX}{source}_2025-07-04.db", io.BytesIO(body), {})


def test_an_unsigned_set_is_restored_by_its_id_and_the_flag(bench: Bench) -> None:
    """Without the flag the plan has a blocker with the line; with it, the data is back."""
    made = bench.made()
    make_unsigned(bench, made.id)
    bench.write("genlater")
    plan = bench.service.restore.plan(made.id)
    assert [one.code for one in plan.blockers] == ["unsigned"]
    assert f"restore {made.id} --in-place --yes --accept-unsigned" in plan.blockers[0].hint
    with pytest.raises(RestoreBlocked, match="no mark"):
        bench.service.restore.begin(plan)

    accepted = bench.service.restore.plan(made.id, accept_unsigned=True)
    assert accepted.blockers == ()
    assert f"adopt {made.instance} --accept-unsigned" in accepted.warnings[0].hint
    run = bench.service.restore.begin(accepted).execute()
    assert run.status == "succeeded", run.error
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


@pytest.mark.parametrize("options", [{}, {"at": INSTANT}])
def test_the_flag_takes_an_id_only(bench: Bench, options: dict[str, Any]) -> None:
    """`latest` and `--at` never mean an unsigned set, so they cannot accept one."""
    with pytest.raises(SetNotNamed, match="takes the id of a set"):
        bench.service.restore.plan(accept_unsigned=True, **options)


def test_a_restore_of_an_unsigned_set_makes_no_successor(
    bench: Bench, tmp_path: Path, clock: FixedClock
) -> None:
    """On a new host it brings the data back, and takes over no sets: `adopt` does that."""
    made = bench.made()
    make_unsigned(bench, made.id)
    with open_bench(
        tmp_path, bench.store, settings={}, clock=clock, directory="another-host"
    ) as host:
        for source in SOURCES:
            bring_into("missing", host.live(source))
        plan = host.service.restore.plan(made.id, accept_unsigned=True)
        assert host.service.restore.begin(plan).execute().status == "succeeded"
        assert host.facts.predecessors() == {}
        assert host.service.own_sets.ours() == {host.directory.instance()}


def test_a_wrong_mark_is_restored_into_a_folder_only(
    bench: Bench, clock: FixedClock, tmp_path: Path
) -> None:
    """A manifest that was copied under another id is wrong: no flag brings it in place."""
    made = bench.made()
    clock.advance(hours=1)
    document = bench.manifest_of(made.id)
    copied = naming.set_id(clock.now())
    document |= {"id": copied, "instant": clock.now().isoformat().replace("+00:00", "Z")}
    _put(bench, bench.manifest_key(copied), json.dumps(document).encode())
    bench.service.catalogue.refresh()
    assert bench.service.catalogue.get(copied).mark == "wrong"

    plan = bench.service.restore.plan(copied, accept_unsigned=True)
    assert [one.code for one in plan.blockers] == ["mark_wrong"]
    with pytest.raises(RestoreBlocked):
        bench.service.restore.begin(plan)
    assert bench.restored(copied, to=tmp_path / "looked-at").set_id == copied


def test_after_a_key_was_removed_its_fingerprint_is_named(
    bench: Bench, tmp_path: Path, clock: FixedClock
) -> None:
    """Status, `restore` and restore-on-empty say which key to put back; then all is as it was."""
    made = bench.made()
    other = {"TOKEN_ENCRYPTION_KEYS": a_token_key("another")}
    with open_bench(tmp_path, bench.store, settings=other, clock=clock) as without:
        service = without.service
        assert service.catalogue.get(made.id).mark == "unknown_key"
        warnings = {one.code: one for one in service.status().health.warnings}
        back = f"Put the key {MARK_KEY.fingerprint} back into TOKEN_ENCRYPTION_KEYS"
        assert back in warnings["mark_key_unknown"].hint
        with pytest.raises(NoRestorePoint) as none:
            service.restore.plan()
        assert back in none.value.hint
        plan = service.restore.plan(made.id)
        assert [one.code for one in plan.blockers] == ["mark_key_unknown"]
        assert back in plan.blockers[0].hint
        assert service.restore.plan(made.id, accept_unsigned=True).blockers == ()
        for source in SOURCES:
            bring_into("missing", without.live(source))
        with pytest.raises(DatabaseMissing) as stopped:
            service.restore_on_empty.restore_missing()
        assert back in stopped.value.hint
    both = {"TOKEN_ENCRYPTION_KEYS": f"{a_token_key('another')},{TOKEN_ENCRYPTION_KEY}"}
    with open_bench(tmp_path, bench.store, settings=both, clock=clock) as with_both:
        assert with_both.service.restore.plan().backup_set.id == made.id


def test_a_legacy_group_needs_the_flag_once_there_are_marks(bench: Bench) -> None:
    """Beside marked sets nobody knows who put an unmarked object there."""
    made = bench.made()
    for source in SOURCES:
        _put_legacy(bench, source, bench.bytes_of(made.objects[0].key))
    bench.service.catalogue.refresh()
    group = "legacy-2025-07-04"
    assert [one.code for one in bench.service.restore.plan(group).blockers] == ["unsigned"]
    assert bench.service.restore.plan(group, accept_unsigned=True).blockers == ()
    make_unsigned(bench, made.id)
    assert bench.service.restore.plan(group).blockers == ()


def test_a_command_that_writes_needs_the_keys(tmp_path: Path) -> None:
    """Exit code 2, by name; what only reads says that marks were not checked."""
    installation = installation_in(tmp_path).make_databases()
    assert installation.cli("run").returncode == 0
    keyless = installation.with_settings(TOKEN_ENCRYPTION_KEYS="")
    made = installation.json("list")["sets"][0]

    for command in (
        ("run",),
        ("verify",),
        ("drill",),
        ("prune",),
        ("accept", made["id"]),
        ("restore",),
        ("restore", made["id"], "--in-place", "--yes"),
    ):
        done = keyless.cli(*command)
        assert done.returncode == 2, command
        assert "TOKEN_ENCRYPTION_KEYS is not set" in done.stderr
    for command in (("list",), ("runs",), ("restore", made["id"], "--to", str(tmp_path / "to"))):
        done = keyless.cli(*command)
        assert done.returncode == 0, done.stderr
        assert "marks were not checked" in done.stderr
    assert keyless.json("list")["sets"][0]["mark"] == "valid"
    assert "marks were not checked" in keyless.cli("status").stdout
    assert "marks were not checked" in keyless.cli("doctor").stdout


def test_a_command_with_another_first_key_than_the_app_stops(tmp_path: Path) -> None:
    """What it made would not be believed by the app that runs; without one, nothing is asked."""
    installation = installation_in(tmp_path).make_databases()
    other = installation.with_settings(
        TOKEN_ENCRYPTION_KEYS=f"{a_token_key('another')},{TOKEN_ENCRYPTION_KEY}"
    )
    with open_bench(tmp_path, settings={}) as bench:
        bench.facts.note_leader_key(MARK_KEY.fingerprint)
        held = bench.directory.scheduler_lease.try_acquire()
        assert held is not None
        bench.directory.scheduler_lease.announce()
        try:
            done = other.cli("run")
            assert done.returncode == 2
            assert f"that of the running app with key {MARK_KEY.fingerprint}" in done.stderr
            assert installation.cli("run").returncode == 0
        finally:
            held.release()
    assert other.cli("run").returncode == 0


def test_a_set_that_claims_an_installation_which_was_marking_is_named_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line of the plan says that it is not of the installation that it names."""
    made = bench.made()
    make_unsigned(bench, made.id)
    monkeypatch.setattr(
        type(bench.service.restore.writers),
        "marking_since",
        lambda _self, _instance: INSTANT - timedelta(days=1),
    )
    plan = bench.service.restore.plan(made.id, accept_unsigned=True)
    first = restore_text.plan(plan, to=None, ask=False).splitlines()[0]
    assert first == (
        f"NOT MADE BY THE INSTALLATION THAT IT NAMES: {made.instance} marks its sets since "
        "2026-11-21T01:00:00Z, and this one has no mark."
    )
