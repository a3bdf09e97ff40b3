"""What a restore passes over is set aside: `latest` means it neither here nor on the next host."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from backups.decisions.retention import RetentionPolicy
from backups.format import naming
from backups.model import BackupSet
from backups.sets import learn
from tests.backups.conftest import LogLines
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import add_rows, count_rows, write
from tests.support.records import INSTANT, a_manifest, a_set
from tests.support.store_wrappers import WatchedStore


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """A service whose tokens have 60 rows."""
    with open_bench(tmp_path, store, clock=clock) as bench:
        yield bench


def next_host(bench: Bench, name: str, clock: FixedClock) -> AbstractContextManager[Bench]:
    """The same bucket and databases, and a `BACKUP_DIR` in which there is nothing."""
    return open_bench(bench.folder, bench.store, sources=bench.sources, directory=name, clock=clock)


def latest_on_a_new_host(bench: Bench, name: str, clock: FixedClock) -> str:
    """What `latest` means where nothing is known but the bucket."""
    with next_host(bench, name, clock) as other:
        assert other.service.own_sets.refresh() is None
        return other.service.own_sets.required_latest().id


def good_then_junk(bench: Bench, clock: FixedClock, junk: int = 2) -> tuple[str, list[str]]:
    """The id of a good set, and those of newer sets full of what nobody wants."""
    good = bench.made().id
    made = []
    for _ in range(junk):
        clock.advance(hours=1)
        add_rows(bench.tokens, 100)
        made.append(bench.made().id)
    clock.advance(hours=1)
    return good, made


def asides(bench: Bench) -> list[str]:
    """The keys of the notes in the store."""
    return [key for key in bench.all_keys() if "/aside-" in key]


def aside_ids(bench: Bench) -> set[str]:
    """The sets that are set aside, as this host knows."""
    return {one.id for one in bench.service.catalogue.sets() if one.set_aside is not None}


def test_the_next_host_does_not_restore_the_junk(either_bench: Bench, clock: FixedClock) -> None:
    """After a restore of an older set `latest` is that set, also where only the bucket is left."""
    bench = either_bench
    good, _ = good_then_junk(bench, clock)

    bench.restored(good)

    assert bench.service.own_sets.required_latest().id == good
    assert latest_on_a_new_host(bench, "second", clock) == good


def test_after_an_undo_it_is_the_latest_again(bench: Bench, clock: FixedClock) -> None:
    """Here and on the next host; and an undo of the undo sets it aside again.

    In the same second, too: the later note counts.
    """
    good, junk = good_then_junk(bench, clock)
    bench.restored(good)

    bench.undo()
    assert bench.service.own_sets.required_latest().id == junk[-1]
    assert latest_on_a_new_host(bench, "second", clock) == junk[-1]

    bench.undo()
    assert bench.service.own_sets.required_latest().id == good
    assert latest_on_a_new_host(bench, "third", clock) == good


def test_an_undo_takes_back_the_last_restore_only(bench: Bench, clock: FixedClock) -> None:
    """What an earlier restore has set aside stays so."""
    oldest = bench.made().id
    clock.advance(hours=1)
    good, junk = good_then_junk(bench, clock)
    bench.restored(good)
    clock.advance(hours=1)
    bench.restored(oldest)
    assert aside_ids(bench) == {good, *junk}

    bench.undo()

    assert aside_ids(bench) == set(junk)
    assert bench.service.own_sets.required_latest().id == good


def test_an_undo_sets_aside_what_was_made_since_the_restore(
    bench: Bench, clock: FixedClock
) -> None:
    """Such a set has what the undo replaces; an undo in the same second counts all the same."""
    good, junk = good_then_junk(bench, clock)
    bench.restored(good)
    since = bench.made().id

    bench.undo()

    assert aside_ids(bench) == {since}
    assert bench.service.own_sets.required_latest().id == junk[-1]
    assert latest_on_a_new_host(bench, "second", clock) == junk[-1]
    bench.undo()
    assert aside_ids(bench) == set(junk)
    assert bench.service.own_sets.required_latest().id == since


def test_an_undo_sets_aside_also_what_the_records_have_forgotten(
    bench: Bench, clock: FixedClock
) -> None:
    """The store is asked first: a set that stayed the newest would hide that one is owed."""
    good, _ = good_then_junk(bench, clock)
    bench.restored(good)
    clock.advance(hours=1)
    since = bench.made().id
    for file in (bench.directory.path / "catalogues").iterdir():
        file.unlink()

    bench.undo()

    assert since in aside_ids(bench)


def test_the_note_says_what_and_why_and_nothing_is_deleted(bench: Bench, clock: FixedClock) -> None:
    """One small object beside each set passed over, not beside the copy of what was replaced."""
    good, junk = good_then_junk(bench, clock)
    before = bench.everything()

    run = bench.restored(good)

    assert before.items() <= bench.everything().items()
    at = clock.now()
    keys = [naming.verdict_key(PREFIX, one, "aside", at) for one in junk]
    assert asides(bench) == keys
    assert bench.json_of(keys[0]) == {
        "format": 1,
        "set_id": junk[0],
        "at": "2026-11-22T04:00:00Z",
        "by": run.id,
        "restored": good,
        "aside": True,
        "mac": bench.json_of(keys[0])["mac"],
    }
    metadata = bench.store.head(keys[0]).metadata
    assert metadata["set-id"] == junk[0]
    assert metadata["instance"] == bench.directory.instance()


def test_an_aside_set_is_reached_by_its_id_and_by_its_time(bench: Bench, clock: FixedClock) -> None:
    """The lists show it, with the time of the restore."""
    good, junk = good_then_junk(bench, clock)
    times = {one.id: one.created_at for one in bench.service.catalogue.sets()}
    bench.restored(good)

    plan = bench.service.restore.plan
    assert plan().backup_set.id == good
    assert plan(junk[0]).backup_set.id == junk[0]
    assert plan(at=times[junk[1]]).backup_set.id == junk[1]
    aside = {one.id: one.set_aside for one in bench.service.catalogue.sets() if one.set_aside}
    assert aside == dict.fromkeys(junk, clock.now())


def test_the_lists_of_the_commands_show_it(tmp_path: Path) -> None:
    """As a member of the JSON, and as a note of the table."""
    with open_bench(tmp_path, settings={}, clock=FixedClock(INSTANT)) as bench:
        bench.write("genset")
        good = bench.made().id
        junk = bench.made().id
        bench.restored(good)

        sets = {one["id"]: one["set_aside"] for one in bench.installation.json("list")["sets"]}
        assert sets[good] is None
        assert sets[junk].startswith("2026-11-22T01:00:0")
        assert f"set aside at {sets[junk]}" in bench.installation.cli("list").stdout


def test_a_restore_of_one_source_sets_aside_as_well(bench: Bench, clock: FixedClock) -> None:
    """What it replaced must not come back with the next restore."""
    good, junk = good_then_junk(bench, clock)

    bench.restored(good, only="tokens")

    assert aside_ids(bench) == set(junk)


def test_a_restore_into_a_folder_sets_nothing_aside(bench: Bench, clock: FixedClock) -> None:
    """It replaces nothing."""
    good, _ = good_then_junk(bench, clock)

    bench.restored(good, to=bench.folder / "to")

    assert asides(bench) == []


def test_a_restore_at_a_start_sets_nothing_aside(bench: Bench, clock: FixedClock) -> None:
    """No person has chosen there: a suspect set that is newer stays what it is."""
    good = bench.made().id
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 5")
    clock.advance(hours=1)
    assert bench.made().suspect
    bench.tokens.unlink()

    run = bench.service.restore_on_empty.restore_missing()

    assert run is not None
    assert run.set_id == good
    assert asides(bench) == []


def test_a_start_does_not_begin_empty_beside_sets_that_are_set_aside(
    bench: Bench, clock: FixedClock
) -> None:
    """Where nothing else is left, a person has to choose one by its id."""
    first, junk = good_then_junk(bench, clock)
    bench.restored(first)
    bench.store.delete(bench.manifest_key(first))
    bench.tokens.unlink()

    with pytest.raises(Exception, match=rf"{junk[-1]}, was set aside"):
        bench.service.restore_on_empty.restore_missing()


# --- the store fails, and there are many ------------------------------------------------


def test_what_cannot_be_stored_is_owed_to_the_next_run(
    bench: Bench, clock: FixedClock, log_lines: LogLines
) -> None:
    """The restore succeeds and says so, this host knows at once, and the next run stores them."""
    good, junk = good_then_junk(bench, clock, junk=5)
    bench.forget_copies()
    bench.watched.before(
        "put",
        "/aside-",
        lambda: bench.watched.break_at("put", len(bench.watched.keys("put"))),
    )

    bench.restored(good)

    assert "sets that a restore passed over could not be set aside in the store yet" in (
        log_lines.text()
    )
    assert aside_ids(bench) == set(junk)
    assert bench.service.own_sets.required_latest().id == good
    assert len(asides(bench)) < 5
    bench.watched.mend()
    clock.advance(hours=1)
    bench.made()
    assert len(asides(bench)) == 5
    assert bench.facts.owed_asides() == ()


def test_a_note_of_a_set_that_was_pruned_since_is_not_stored(
    bench: Bench, clock: FixedClock
) -> None:
    """Nothing would remove it with its set."""
    good, junk = good_then_junk(bench, clock)
    bench.watched.before(
        "put",
        "/aside-",
        lambda: bench.watched.break_at("put", len(bench.watched.keys("put")) - 1),
    )
    bench.restored(good)
    bench.watched.mend()
    bench.service.catalogue.forget(junk[0])
    bench.store.delete(bench.manifest_key(junk[0]))

    clock.advance(hours=1)
    bench.made()

    assert not any(junk[0] in key for key in asides(bench))
    assert any(junk[1] in key for key in asides(bench))
    assert bench.facts.owed_asides() == ()


def test_hundreds_of_newer_sets_are_set_aside(bench: Bench, clock: FixedClock) -> None:
    """All of them, in one restore: more than one transaction takes, and several at a time."""
    good = bench.made()
    for number in range(1, 301):
        one = a_set(
            INSTANT + timedelta(minutes=number),
            instance=good.instance,
            trigger="change",
            objects=good.objects,
        )
        document = a_manifest(one)
        bench.watched.inner.put(bench.manifest_key(one.id), io.BytesIO(document), {})
        bench.service.catalogue.add_manifest(one.id, document)
    clock.advance(hours=6)

    plan = bench.service.restore.plan(good.id)
    bench.service.restore.begin(plan).execute()

    assert len(asides(bench)) == 300
    assert bench.service.own_sets.required_latest().id == good.id


# --- what counts for what ---------------------------------------------------------------


def test_after_a_restore_a_new_set_is_owed_and_nothing_is_overdue(
    bench: Bench, clock: FixedClock
) -> None:
    """What was passed over is not the set of its due instant, and what is live is in the store."""
    good = bench.made("scheduled").id
    for _ in range(5):
        clock.advance(days=1)
        add_rows(bench.tokens, 10)
        bench.made("scheduled")
    clock.advance(hours=1)
    assert not bench.service.own_sets.is_owed("catch-up")

    bench.restored(good)

    assert bench.problems() == []
    assert bench.service.own_sets.is_owed("catch-up")
    clock.advance(days=1, hours=3)
    assert bench.problems() == ["overdue"]


def test_a_restore_over_a_suspect_set_ends_the_suspicion(bench: Bench, clock: FixedClock) -> None:
    """The junk is not the newest set any more, and freezes nothing."""
    good = bench.made().id
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 5")
    clock.advance(hours=1)
    assert bench.made().suspect
    assert bench.problems() == ["suspect"]

    bench.restored(good)

    assert bench.problems() == []
    assert bench.service.own_sets.frozen() is None


def test_new_sets_are_measured_by_what_was_restored(bench: Bench, clock: FixedClock) -> None:
    """After the restore of a smaller set the next ones are good, and `latest` is the newest."""
    good, _ = good_then_junk(bench, clock)  # 60 rows, then 160 and 260
    bench.restored(good)
    clock.advance(minutes=1)

    made = [bench.made()]
    clock.advance(hours=3)
    made.append(bench.made())

    assert [one.suspect for one in made] == [None, None]
    assert bench.service.own_sets.required_latest().id == made[-1].id
    bench.restored()
    assert count_rows(bench.tokens) == 60
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 20")
    clock.advance(minutes=1)
    assert bench.made().suspect == ("tokens.tokens has 20 rows, 60 before",)


def test_a_restored_set_without_a_proof_is_the_measure_too(bench: Bench, clock: FixedClock) -> None:
    """A set that was restored by its id is what its next sets are compared with."""
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 30")
    small = bench.made(only="tokens").id
    clock.advance(hours=1)
    add_rows(bench.tokens, 500)
    bench.made()
    clock.advance(hours=1)

    bench.restored(small)
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 5")
    clock.advance(minutes=1)

    assert bench.made().suspect == ("tokens.tokens has 5 rows, 30 before",)


@pytest.mark.parametrize("hours", [1, -1])
def test_an_accepted_set_ends_the_measure_of_a_restore(
    bench: Bench, clock: FixedClock, hours: int
) -> None:
    """Who accepts a smaller set later is not asked again, wherever the clock was put since."""
    bench.restored(bench.made().id)
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 5")
    clock.advance(hours=hours)
    smaller = bench.made()
    assert smaller.suspect

    bench.service.acceptance.accept(smaller.id)
    clock.advance(minutes=1)

    assert bench.made().suspect is None


def test_after_an_undo_the_measure_is_that_of_before(bench: Bench, clock: FixedClock) -> None:
    """Sets made since the restore are larger than what the undo brought back: no suspicion."""
    add_rows(bench.tokens, 500)
    large = bench.made().id
    write(bench.tokens, "DELETE FROM tokens WHERE rowid > 50")
    clock.advance(hours=1)
    small = bench.made()
    bench.service.acceptance.accept(small.id)
    clock.advance(hours=1)
    bench.restored(large)
    clock.advance(minutes=1)
    bench.made()

    bench.undo()
    clock.advance(minutes=1)

    assert bench.made().suspect is None


def test_rows_that_fall_in_small_steps_are_noticed(bench: Bench, clock: FixedClock) -> None:
    """45 % less from each change run to the next: the second step is suspect, and all after it."""
    add_rows(bench.tokens, 940)
    suspect = []
    rows = 1000
    while rows > 1:
        suspect.append(bool(bench.made("change").suspect))
        clock.advance(minutes=1)
        rows = int(rows * 0.55)
        write(bench.tokens, "DELETE FROM tokens WHERE rowid > ?", rows)

    assert suspect == [False, False, *[True] * (len(suspect) - 2)]
    assert len(suspect) > 5


# --- retention, and older versions ------------------------------------------------------

NOTHING = RetentionPolicy(changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0)


def test_the_newest_proven_set_that_is_kept_is_not_an_aside_one(
    bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """A prune never leaves only what a restore passed over; notes go with their sets."""
    good, junk = good_then_junk(bench, clock)
    bench.restored(good)
    clock.advance(days=30)
    with open_bench(
        bench.folder, store, sources=bench.sources, clock=clock, retention=NOTHING
    ) as strict:
        assert strict.prune().status == "succeeded"

    assert bench.stored_ids() == [good]
    assert asides(bench) == []
    assert not any(one in key for key in bench.all_keys() for one in junk)


def test_an_aside_set_pushes_no_good_one_of_its_day_out(bench: Bench, clock: FixedClock) -> None:
    """Both stay: the last of the day, and the last of the day that was passed over."""
    good, junk = good_then_junk(bench, clock)
    bench.restored(good)
    clock.advance(days=10)
    bench.made()

    kept = {one.backup_set.id: one.reasons for one in bench.service.own_sets.plan_prune().keep}

    assert "last of its day" in kept[good]
    assert "last of its day" in kept[junk[1]]
    assert junk[0] not in kept


def test_the_version_before_removes_the_notes_with_their_sets(
    bench: Bench, store: WatchedStore, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not read them, and its sweep takes what lies beside a manifest that is gone."""
    good, _ = good_then_junk(bench, clock)
    bench.restored(good)
    assert len(asides(bench)) == 2
    monkeypatch.setattr(
        learn,
        "_is_read",
        lambda _set_id, name: name.startswith(("manifest", "proof-", "accept-", "drill-")),
    )
    with bench.records.transaction() as connection:
        connection.execute("DELETE FROM verdicts WHERE name LIKE 'aside-%'")
    clock.advance(days=2000)  # also long after the objects were stored, by the clock of the disk
    with open_bench(
        bench.folder, store, sources=bench.sources, clock=clock, retention=NOTHING
    ) as older:
        older.made()

    assert asides(bench) == []


@pytest.mark.parametrize("body", [b"{", b'{"format": 2}', b'{"format": 1, "set_id": "x"}'])
def test_a_note_that_cannot_be_read_changes_nothing(
    bench: Bench, clock: FixedClock, body: bytes
) -> None:
    """A damaged note, and one of a later version, are passed over with a line of the log."""
    made: BackupSet = bench.made()
    bench.store.put(naming.verdict_key(PREFIX, made.id, "aside", INSTANT), io.BytesIO(body), {})

    assert bench.service.own_sets.refresh() is None

    assert bench.service.own_sets.required_latest() == made
