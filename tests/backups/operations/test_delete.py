"""Tests of `delete`: one set goes on purpose, whole, for every host, and nothing else does."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.errors import NotDeletable, SetDeleted, SetNotFound
from backups.format import naming
from backups.format.mark import sha256_of
from backups.format.notes.deletion import FORMAT, Deletion, dump_deletion, load_deletion
from backups.model import Run, Source
from backups.operations.prune import DELETION_KEPT, ORPHAN_AGE
from shared.errors import StoreFailing
from shared.store.directory import DirectoryStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.following import (
    begun,
    clock_of,
    following,
    following_bench,
    rotate,
    step,
)
from tests.support.marks import MARK_KEY, a_token_key, mark_key_of
from tests.support.store_wrappers import WatchedStore


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An installation; all of its sets are young."""
    with open_bench(tmp_path) as bench:
        yield bench


def made(bench: Bench, count: int = 2) -> list[str]:
    """Some sets, a minute apart, the oldest first."""
    found = []
    for _ in range(count):
        clock_of(bench).advance(minutes=1)
        found.append(bench.made().id)
    return found


def delete(bench: Bench, set_id: str) -> Run:
    """Delete a set; the finished run."""
    return bench.service.delete.begin(set_id).execute()


def deleted(bench: Bench, set_id: str) -> None:
    """Delete a set, which must succeed."""
    run = delete(bench, set_id)
    assert (run.status, run.set_id) == ("succeeded", set_id), run.error


def ids(bench: Bench) -> list[str]:
    """The ids of the restore points, newest first."""
    return [one.id for one in bench.service.catalogue.sets()]


def left_of(bench: Bench, set_id: str) -> list[str]:
    """The names of what lies beside the manifest of a set, and of its stored files."""
    day, time = set_id[:8], set_id[8:]
    stem = f"_{day[:4]}-{day[4:6]}-{day[6:]}"
    return [
        key.rpartition("/")[2]
        for key in bench.all_keys()
        if f"/{set_id}/" in key or f"{stem}{time}" in key
    ]


@contextmanager
def same_line(bench: Bench, folder: Path, **options: Any) -> Iterator[Bench]:
    """Another host with records of its own, for which these sets are its own, too."""
    own = folder / bench.directory.path.relative_to(bench.folder)
    own.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bench.directory.path / "instance", own / "instance")
    options = {"clock": bench.service.clock, "sources": bench.sources, **options}
    with open_bench(folder, bench.store, **options) as other:
        assert other.service.own_sets.ours() == bench.service.own_sets.ours()
        yield other


def note(bench: Bench, set_id: str, *, sign: bool) -> bytes:
    """A note that a set was deleted, which lies in the store, but nowhere in this program."""
    at = clock_of(bench).now()
    manifest = sha256_of(bench.bytes_of(bench.manifest_key(set_id)))
    document = dump_deletion(Deletion(set_id, at, manifest))
    key = naming.verdict_key(PREFIX, set_id, "deleted", at)
    if sign:
        document = bench.service.config.marks.sign(key, document)
    metadata = {"set-id": set_id, "instance": bench.directory.instance()}
    bench.store.put(key, io.BytesIO(document), metadata)
    return document


def test_a_deleted_set_is_gone_for_everybody_who_asks(either_bench: Bench) -> None:
    """Its files, its manifest and its verdicts go; a marked note stays, and nothing is missed."""
    bench = either_bench
    first, second, third = made(bench, 3)
    bench.verify(second)
    assert bench.directory.copies() == [third, second]
    deleted(bench, second)

    assert bench.directory.copies() == [third]
    assert bench.staged() == []
    assert ids(bench) == [third, first]
    assert bench.stored_ids() == [first, third]
    (name,) = left_of(bench, second)
    assert name.startswith("deleted-")
    key = naming.document_key(PREFIX, second, name.removesuffix(".json"))
    assert bench.service.config.marks.check(key, bench.bytes_of(key)).outcome == "valid"
    bench.service.own_sets.refresh()
    assert ids(bench) == [third, first]
    assert bench.service.catalogue.count() == 2
    assert bench.service.own_sets.missing_points() == ()
    assert bench.problems() == []
    with pytest.raises(SetDeleted, match=f"{second} was deleted on purpose at"):
        bench.service.restore.plan(second)
    assert bench.prune().status == "succeeded"
    assert left_of(bench, second) == [name]


def test_the_first_set_of_a_day_leaves_its_dated_keys_free(bench: Bench) -> None:
    """No object of the day is left behind that would look like one of the old scripts."""
    first, _ = made(bench)
    dated = [one.key for one in bench.service.catalogue.get(first).objects]
    assert dated == ["backups/tokens_2026-11-22.db", "backups/sessions_2026-11-22.db"]
    deleted(bench, first)
    assert not {*dated} & {*bench.all_keys()}
    bench.service.own_sets.refresh()
    assert not [one for one in ids(bench) if naming.is_legacy_id(one)]


def test_another_host_of_the_line_misses_nothing(either_bench: Bench, tmp_path: Path) -> None:
    """It knew the set; the note says why it is gone, whether or not it is still there in part."""
    bench = either_bench
    first, second = made(bench)
    with same_line(bench, tmp_path / "other") as other:
        other.service.own_sets.refresh()
        assert ids(other) == [second, first]
        note(bench, first, sign=True)
        other.service.own_sets.refresh()
        assert ids(other) == [second]
        deleted(bench, first)
        other.service.own_sets.refresh()
        assert ids(other) == [second]
        assert other.service.catalogue.lost_points() == ()


def test_a_note_that_is_younger_than_the_listing_is_seen(bench: Bench, tmp_path: Path) -> None:
    """A set that is deleted between two pages of a listing has not vanished."""
    first, _ = made(bench)
    bench.service.own_sets.refresh()
    document = note(bench, first, sign=True)
    for key in [one for one in bench.all_keys() if f"/{first}/manifest" in one]:
        bench.store.delete(key)
    bench.watched.unlisted = lambda prefix, key: prefix == PREFIX and "/deleted-" in key
    bench.service.own_sets.refresh()
    assert document
    assert bench.service.catalogue.lost_points() == ()
    assert first not in ids(bench)


@pytest.mark.parametrize(
    "how", ["unsigned", "another key", "another manifest", "another set", "later mark"]
)
def test_a_planted_note_hides_no_set(bench: Bench, how: str) -> None:
    """Who has the bucket's key, and not ours, deletes nothing in the eyes of this program."""
    first, second = made(bench)
    at = clock_of(bench).now()
    of = (
        "0" * 64
        if how == "another manifest"
        else sha256_of(bench.bytes_of(bench.manifest_key(first)))
    )
    document = dump_deletion(Deletion(second if how == "another set" else first, at, of))
    key = naming.verdict_key(PREFIX, first, "deleted", at)
    if how == "later mark":  # as `--accept-unsigned` makes it
        name = key.rpartition("/")[2].removesuffix(".json")
        bench.service.later_marks.note({first: {name: sha256_of(document)}})
        bench.service.later_marks.finish()
    elif how != "unsigned":
        marks = bench.service.config.marks
        if how == "another key":
            marks = replace_key(marks)
        document = marks.sign(key, document)
    bench.store.put(
        key, io.BytesIO(document), {"set-id": first, "instance": bench.directory.instance()}
    )
    bench.service.own_sets.refresh()
    assert ids(bench) == [second, first]
    assert bench.prune().status == "succeeded"
    assert bench.stored_ids() == [first, second]
    bench.store.delete(bench.manifest_key(first))
    bench.service.own_sets.refresh()
    vanished = [one.id for one in bench.service.own_sets.missing_points()]
    # A note on another manifest says nothing of this set, but its own mark is ours.
    assert vanished == [first]


def replace_key(marks: Any) -> Any:
    """Marks of somebody who has another token key."""
    return type(marks)((mark_key_of(a_token_key("theirs")),), PREFIX)


def test_a_note_that_a_thief_removes_brings_back_what_is_there(bench: Bench) -> None:
    """The store is the truth: a set that is whole, and of which no note says more, is one."""
    first, second = made(bench)
    note(bench, first, sign=True)
    bench.service.own_sets.refresh()
    assert ids(bench) == [second]
    for key in [one for one in bench.all_keys() if "/deleted-" in one]:
        bench.store.delete(key)
    bench.service.own_sets.refresh()
    assert ids(bench) == [second, first]


def test_a_hollow_set_that_is_deleted_is_missed_no_more(bench: Bench) -> None:
    """Somebody deleted an object of it; who deletes the rest ends the problem."""
    first, _ = made(bench)
    bench.store.delete(bench.service.catalogue.get(first).objects[0].key)
    bench.service.own_sets.refresh()
    assert [one.id for one in bench.service.own_sets.missing_points()] == [first]
    deleted(bench, first)
    bench.service.own_sets.refresh()
    assert bench.service.own_sets.missing_points() == ()
    assert bench.service.catalogue.lost_points() == ()


def keys_of(bench: Bench, *names: str) -> Any:
    """Marks by token keys of these names, and then by the key of the bench."""
    return (*(mark_key_of(a_token_key(name)) for name in names), MARK_KEY)


def notes_of(bench: Bench, set_id: str) -> list[str]:
    """The keys of the notes that a set was deleted, the oldest first."""
    return [key for key in bench.all_keys() if f"/{set_id}/deleted-" in key]


def test_after_a_rotation_a_host_that_was_away_misses_nothing(
    either_bench: Bench, tmp_path: Path
) -> None:
    """The note is marked again, once, and says when it was: who has the new key alone reads it."""
    bench = either_bench
    first, second = made(bench)
    with same_line(bench, tmp_path / "away") as other:
        other.service.own_sets.refresh()
        assert ids(other) == [second, first]
    at = clock_of(bench).now()
    deleted(bench, first)
    clock_of(bench).advance(days=30)
    with same_line(bench, tmp_path / "rotating", mark_keys=keys_of(bench, "new")) as rotating:
        assert rotating.service.rotation.mark_again() == (1, 0)
        old, new = notes_of(bench, first)
        body = bench.bytes_of(new)
        assert load_deletion(body, expected_id=first).at == at + timedelta(seconds=1)
        assert bench.store.head(new).metadata["set-id"] == first
        clock_of(bench).advance(minutes=1)
        rotating.service.rotation.mark_again()
        assert notes_of(bench, first) == [old, new]
    with same_line(bench, tmp_path / "away", mark_keys=keys_of(bench, "new")[:1]) as other:
        other.service.own_sets.refresh()
        assert ids(other) == [second]
        assert other.service.catalogue.lost_points() == ()
        assert other.service.own_sets.missing_points() == ()
        with pytest.raises(SetDeleted, match=f"{first} was deleted on purpose at"):
            other.service.restore.plan(first)


def test_a_deletion_that_was_stopped_is_finished_after_a_rotation(
    bench: Bench, tmp_path: Path
) -> None:
    """The set stays hidden, here and elsewhere, and the next prune removes what is left of it."""
    first, second = made(bench)
    note(bench, first, sign=True)
    bench.service.own_sets.refresh()
    with same_line(bench, tmp_path / "rotating", mark_keys=keys_of(bench, "new")) as rotating:
        rotating.service.rotation.mark_again()
        assert bench.stored_ids() == [first, second]
        assert ids(rotating) == [second]
    with same_line(bench, tmp_path / "next", mark_keys=keys_of(bench, "new")[:1]) as other:
        other.service.own_sets.refresh()
        assert ids(other) == [second]
        assert other.prune().status == "succeeded"
    assert bench.stored_ids() == [second]


def test_notes_of_others_are_not_marked_again(bench: Bench, tmp_path: Path) -> None:
    """Another installation rotates for itself."""
    first, _ = made(bench)
    deleted(bench, first)
    keys = keys_of(bench, "new")
    with open_bench(
        tmp_path / "theirs", bench.store, clock=bench.service.clock, mark_keys=keys
    ) as theirs:
        theirs.made()
        theirs.service.rotation.mark_again()
    assert len(notes_of(bench, first)) == 1


# --- what is refused ----------------------------------------------------------------------


def refused(bench: Bench, set_id: str) -> NotDeletable:
    """The refusal, before and under the lease; nothing was changed."""
    before = bench.everything()
    with pytest.raises(NotDeletable) as caught:
        bench.service.delete.plan(set_id)
    run = delete(bench, set_id)
    assert run.error is not None
    assert (run.status, run.error.code) == ("failed", "not_deletable")
    assert bench.everything() == before
    return caught.value


def test_the_newest_good_set_is_never_deleted(bench: Bench) -> None:
    """Not even where a newer one is there that does not protect."""
    first, second = made(bench)
    clock_of(bench).advance(minutes=1)
    partial = bench.made(only="tokens").id
    error = refused(bench, second)
    assert error.message == f"{second} is the newest complete, proven set, and is never deleted"
    assert error.hint == "Make a newer one first: ./bot backups run"
    deleted(bench, partial)
    deleted(bench, first)
    assert ids(bench) == [second]


def test_the_newest_of_all_stays_where_nothing_is_proven(bench: Bench) -> None:
    """A set of one source is better than nothing."""
    clock_of(bench).advance(minutes=1)
    only = bench.made(only="tokens").id
    assert "is the newest set there is" in refused(bench, only).message


def test_a_pinned_set_is_let_go_first(bench: Bench) -> None:
    """The refusal has the label and the command."""
    first, _ = made(bench)
    bench.service.pins.pin(first, "before the move")
    error = refused(bench, first)
    assert error.message == f"{first} is pinned (before the move)"
    assert error.hint == f"Let it go first: ./bot backups unpin {first}"
    clock_of(bench).advance(minutes=1)
    bench.service.pins.unpin(first)
    deleted(bench, first)


def test_what_is_not_ours_is_refused_by_name(bench: Bench, tmp_path: Path) -> None:
    """A neighbour's set, one without a mark, and a group of the old scripts."""
    made(bench)
    with open_bench(tmp_path / "other", bench.store, clock=bench.service.clock) as other:
        theirs, _ = made(other)
        instance = other.directory.instance()
    bench.store.put("backups/tokens_2025-07-04.db", io.BytesIO(b"old"), {})
    bench.service.own_sets.refresh()
    error = refused(bench, theirs)
    assert error.message == f"{theirs} was made by another installation, {instance}"
    assert f"./bot backups adopt {instance}" in error.hint
    assert "legacy-2025-07-04 has no valid mark" in refused(bench, "legacy-2025-07-04").message


def test_a_set_whose_notes_cannot_be_read_is_refused(bench: Bench) -> None:
    """One of them may say that it is pinned."""
    first, _ = made(bench)
    bench.service.pins.pin(first)
    (key,) = [one for one in bench.all_keys() if "/pin-" in one]
    bench.replace_object(key, b"{}")
    bench.service.catalogue.forget(first)
    assert "a note beside" in refused(bench, first).message


def test_what_is_not_there_is_not_found(bench: Bench) -> None:
    """Also a set that was deleted before: that is said."""
    first, _ = made(bench)
    with pytest.raises(SetNotFound, match="there is no restore point"):
        bench.service.delete.plan("20200101T000000Z")
    deleted(bench, first)
    with pytest.raises(SetDeleted):
        bench.service.delete.plan(first)


# --- with a chain -------------------------------------------------------------------------


def test_points_that_are_made_from_it_are_named_and_go_with_it(tmp_path: Path) -> None:
    """While the newest points need it, it stays; then its chain goes, too, and none is missed."""
    with following_bench(tmp_path) as bench, following(bench) as follower:
        chain = begun(bench, follower)
        full = chain.partition("-")[0]
        for number in range(3):
            rotate(bench, f"value {number}")
            assert step(bench, follower) == "stored"
        error = refused(bench, f"{full}.2")
        assert error.hint.endswith(f"./bot backups delete {full}")
        clock_of(bench).advance(minutes=1)
        second = bench.made().id
        # A new set, whose chain has not begun: the points still go on.
        assert "the newest points are made from" in refused(bench, full).message
        assert step(bench, follower) in ("idle", "stored")
        rotate(bench, "new")
        assert step(bench, follower) == "stored"

        plan = bench.service.delete.plan(full)
        assert plan.chain is not None
        assert plan.chain.id == chain
        with same_line(bench, tmp_path / "other") as other:
            other.service.own_sets.refresh()
            deleted(bench, full)
            other.service.own_sets.refresh()
            assert other.service.catalogue.lost_points() == ()
            assert other.service.catalogue.chains.warnings() == ()
        assert not [key for key in bench.all_keys() if f"/{chain}/" in key]
        assert {one.chain.partition("-")[0] for one in bench.service.list_ranges()} == {second}
        with pytest.raises(SetDeleted):
            bench.service.catalogue.get(f"{full}.2")
        rotate(bench, "newer")
        assert step(bench, follower) == "stored"
        assert bench.service.own_sets.missing_points() == ()


def test_the_points_are_gone_from_the_note_on(tmp_path: Path) -> None:
    """While a deletion is unfinished, neither list nor `--at` nor a warning knows its points."""
    with following_bench(tmp_path) as bench, following(bench) as follower:
        chain = begun(bench, follower)
        full = chain.partition("-")[0]
        rotate(bench, "a")
        assert step(bench, follower) == "stored"
        clock_of(bench).advance(minutes=1)
        bench.made()
        assert step(bench, follower) in ("idle", "stored")
        bench.watched.break_at("delete", 0)
        assert delete(bench, full).status == "failed"
        bench.watched.mend()
        bench.service.own_sets.refresh()
        assert chain not in {one.chain for one in bench.service.list_ranges()}
        assert bench.service.catalogue.chains.warnings() == ()
        with pytest.raises(SetDeleted):
            bench.service.catalogue.get(f"{full}.1")
        assert bench.prune().status == "succeeded"
        assert not [key for key in bench.all_keys() if f"/{chain}/" in key]


# --- stopped at each step -----------------------------------------------------------------


def die(*_: object) -> None:
    """What a power failure is to a process."""
    os.kill(os.getpid(), signal.SIGKILL)


def stopped_house(folder: Path, act: Callable[[Bench, str], None]) -> tuple[str, str, str]:
    """Two sets, a chain on the first; `act` on it in this process. The sets, and the chain."""
    with following_bench(folder, WatchedStore(DirectoryStore(folder / "s"))) as bench:
        with following(bench) as follower:
            chain = begun(bench, follower)
            first = chain.partition("-")[0]
            rotate(bench, "a")
            assert step(bench, follower) == "stored"
            clock_of(bench).advance(minutes=1)
            second = bench.made().id
            assert step(bench, follower) in ("idle", "stored")
        act(bench, first)
        return first, second, chain


def steps_of_a_deletion(folder: Path) -> int:
    """How many puts and deletes it takes."""
    counted: list[int] = []

    def act(bench: Bench, first: str) -> None:
        before = len([1 for what, _ in bench.watched.calls if what in ("put", "delete")])
        deleted(bench, first)
        after = len([1 for what, _ in bench.watched.calls if what in ("put", "delete")])
        counted.append(after - before)

    stopped_house(folder, act)
    return counted[0]


@pytest.mark.parametrize("finisher", ["prune", "delete", "another host"])
def test_a_deletion_that_dies_at_any_step_is_finished(tmp_path: Path, finisher: str) -> None:
    """Killed before each put and each delete in turn: the set is whole, or gone in the end."""
    steps = steps_of_a_deletion(tmp_path / "counted")
    assert steps >= 6
    for number in range(steps):
        folder = tmp_path / str(number)

        def act(bench: Bench, first: str, number: int = number) -> None:
            pid = os.fork()
            if pid == 0:
                try:
                    die_at(bench.watched, number)
                    delete(bench, first)
                finally:
                    os._exit(3)
            _, status = os.waitpid(pid, 0)
            assert os.WIFSIGNALED(status), f"step {number} never came"

        first, second, chain = stopped_house(folder, act)
        finish(folder, first, second, chain, finisher=finisher, begun=number > 0)


def die_at(store: WatchedStore, number: int) -> None:
    """Die before the put or delete with this number, of those from now on."""
    counted = iter(range(number))
    for name in ("put", "delete"):
        real = getattr(store.inner, name)

        def act(*given: Any, real: Any = real, **options: Any) -> Any:
            if next(counted, None) is None:
                die()
            return real(*given, **options)

        setattr(store.inner, name, act)


def finish(
    folder: Path, first: str, second: str, chain: str, *, finisher: str, begun: bool
) -> None:
    """Let the same host, or a host without its records, go on; all of the set must be gone."""
    store = WatchedStore(DirectoryStore(folder / "s"))
    sources = tuple(Source(one, folder / "data" / f"{one}.db") for one in ("tokens", "sessions"))
    clock = FixedClock()
    clock.advance(hours=1)
    options: dict[str, Any] = {"clock": clock, "sources": sources}
    with following_bench(folder, store, **options) as bench:
        bench.service.own_sets.refresh()
        if not begun:
            assert ids(bench) == [second, first]
            deleted(bench, first)
        else:
            assert ids(bench) == [second]
        assert bench.service.own_sets.missing_points() == ()
        if finisher == "another host":
            for file in (bench.directory.path / "catalogues").iterdir():
                file.unlink()
    with following_bench(folder, store, **options) as bench:
        if finisher == "delete":
            third, _ = made(bench)
            deleted(bench, third)
        else:
            assert bench.prune().status == "succeeded"
        if finisher == "another host":  # what it knows nothing of is swept when it is old
            sweep_as_of(bench, ORPHAN_AGE + timedelta(hours=1))
        assert [name for name in left_of(bench, first) if not name.startswith("deleted-")] == []
        assert not [key for key in bench.all_keys() if f"/{chain}/" in key]
        owners = [bench.store.head(key).metadata["set-id"] for key in bench.data_keys()]
        assert first not in owners
        assert bench.service.own_sets.missing_points() == ()


def sweep_as_of(bench: Bench, age: timedelta) -> list[str]:
    """Sweep as if all that is stored were so old."""
    clock = clock_of(bench)
    newest = max(one.modified_at for one in bench.store.list(PREFIX))
    before = clock.now()
    clock.advance(seconds=(newest + age - before).total_seconds())
    try:
        return bench.service.prune.sweep(bench.service.own_sets.ours())
    finally:
        clock.step(seconds=-(newest + age - before).total_seconds())


@pytest.mark.parametrize("part", ["head", "manifest", "increment", "object"])
def test_what_the_store_refuses_is_finished_later(tmp_path: Path, part: str) -> None:
    """The run fails with the refusal; the set is gone for people all the same."""
    kept: list[str] = []

    def act(bench: Bench, first: str) -> None:
        chosen = bench.service.catalogue.get(first)
        keys = {
            "manifest": bench.manifest_key(first),
            "object": chosen.objects[0].key,
            "head": next(
                key for key in bench.all_keys() if key.endswith("/head.json") and first in key
            ),
            "increment": next(key for key in bench.all_keys() if "/i/" in key and first in key),
        }
        bench.watched.refused.add(keys[part])
        run = delete(bench, first)
        assert run.error is not None
        assert run.error.code == "store_access_denied"
        assert first not in ids(bench)
        assert keys[part] in bench.all_keys()
        # While the chain is listed, so are the set and its note: any host can go on.
        assert (keys["manifest"] in bench.all_keys()) == (part in ("head", "manifest", "increment"))
        bench.watched.refused.clear()
        assert bench.prune().status == "succeeded"
        kept.extend(key for key in bench.all_keys() if first in key)

    stopped_house(tmp_path, act)
    (left,) = kept
    assert "/deleted-" in left


def test_the_next_backup_finishes_it_by_itself(bench: Bench) -> None:
    """Nobody has to type anything: what prunes after a backup has something to do."""
    first, second = made(bench)
    bench.watched.break_at("delete", 0)
    assert delete(bench, first).status == "failed"
    bench.watched.mend()
    assert bench.stored_ids() == [first, second]
    (third,) = made(bench, 1)
    assert bench.stored_ids() == [second, third]
    assert len(left_of(bench, first)) == 1


def test_a_note_that_the_store_does_not_return_hides_no_other_set(
    bench: Bench, tmp_path: Path
) -> None:
    """Until it is read the set counts as vanished; the listing goes on, and with the note it
    is right again."""
    first, second = made(bench)
    with same_line(bench, tmp_path / "other") as other:
        other.service.own_sets.refresh()
        deleted(bench, first)
        (third,) = made(bench, 1)
        bench.watched.before("get", "/deleted-", fail_once)
        other.service.own_sets.refresh()
        assert ids(other) == [third, second]
        assert [one.id for one in other.service.catalogue.lost_points()] == [first]
        other.service.own_sets.refresh()
        assert other.service.catalogue.lost_points() == ()


def fail_once() -> None:
    """What a 500 is."""
    raise StoreFailing("get: 500", "Try again.")


# --- the note -----------------------------------------------------------------------------


def test_the_note_goes_after_a_year_and_then_nothing_is_missed(bench: Bench) -> None:
    """Until then a host that was away learns from it; a note of a set that is there stays."""
    first, _ = made(bench)
    deleted(bench, first)
    assert sweep_as_of(bench, DELETION_KEPT - timedelta(hours=1)) == []
    assert len(left_of(bench, first)) == 1
    (key,) = sweep_as_of(bench, DELETION_KEPT + ORPHAN_AGE + timedelta(hours=1))
    assert "/deleted-" in key
    bench.service.own_sets.refresh()
    assert bench.service.own_sets.missing_points() == ()
    with pytest.raises(SetNotFound, match="there is no restore point"):
        bench.service.catalogue.get(first)


def test_a_neighbours_unfinished_deletion_is_left_to_it(bench: Bench, tmp_path: Path) -> None:
    """Nothing of it is removed here, and the sweep of our own orphans goes on."""
    made(bench)
    with open_bench(tmp_path / "other", bench.store, clock=bench.service.clock) as other:
        theirs, _ = made(other)
        note(other, theirs, sign=True)
    before = left_of(bench, theirs)
    orphan = "backups/tokens_2026-11-22T030000Z.db"
    metadata = {"set-id": "20261122T030000Z", "instance": bench.directory.instance()}
    bench.store.put(orphan, io.BytesIO(b"left"), metadata)
    assert bench.prune().status == "succeeded"
    assert sweep_as_of(bench, ORPHAN_AGE + timedelta(hours=1)) == [orphan]
    assert left_of(bench, theirs) == before


def test_a_note_is_read_as_it_was_written() -> None:
    """With all its members; of another set, or another format, it is none."""
    at = FixedClock().now().replace(microsecond=0)
    written = Deletion("20261122T010000Z", at, "a" * 64)
    assert load_deletion(dump_deletion(written), expected_id=written.set_id) == written
    for other in (replace(written, format=FORMAT + 1), replace(written, set_id="20261122T010001Z")):
        with pytest.raises(Exception, match="another format, or speaks of another set"):
            load_deletion(dump_deletion(other), expected_id=written.set_id)


def test_a_host_without_keys_learns_it_once_it_has_them(bench: Bench, tmp_path: Path) -> None:
    """It cannot check the note, and says that the set vanished; with its keys it knows better."""
    first, second = made(bench)
    with same_line(bench, tmp_path / "other") as other:
        other.service.own_sets.refresh()
    deleted(bench, first)
    with same_line(bench, tmp_path / "other", mark_keys=()) as other:
        other.service.own_sets.refresh()
        assert [one.id for one in other.service.catalogue.lost_points()] == [first]
    with same_line(bench, tmp_path / "other", mark_keys=(MARK_KEY,)) as other:
        assert other.service.catalogue.lost_points() == ()
        assert ids(other) == [second]
