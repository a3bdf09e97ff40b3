"""Rotation: what is ours is marked again with the first key, and then older keys say nothing."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backups.errors import LeaseHeld, RotationUnfinished
from backups.format import naming
from backups.format.instance import InstanceDocument, dump_instance, load_instance
from backups.format.mark import Marks
from backups.model import Source
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import make_sources
from tests.support.installation import TOKEN_ENCRYPTION_KEY, installation_in
from tests.support.marks import a_token_key, mark_key_of
from tests.support.store_wrappers import WatchedStore, put
from tests.support.warm_python import run_warm

OLD, NEW, NEXT = (mark_key_of(a_token_key(name)) for name in ("old", "new", "next"))

Open = Callable[..., Bench]


@pytest.fixture
def opened(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Open]:
    """Opens a bench with these keys over the same store and databases."""
    sources: list[Source] = list(make_sources(tmp_path / "data", 60))
    with ExitStack() as stack:

        def opening(*keys: Any, **changes: Any) -> Bench:
            return stack.enter_context(
                open_bench(tmp_path, store, clock=clock, sources=sources, mark_keys=keys, **changes)
            )

        yield opening


@pytest.fixture
def made(opened: Open, clock: FixedClock) -> list[str]:
    """The ids of three sets that are marked with the old key."""
    ids = []
    for _ in range(3):
        ids.append(opened(OLD).made().id)
        clock.advance(hours=1)
    return ids


def marks(bench: Bench) -> dict[str, str]:
    """How each set is marked, by what the store has."""
    bench.service.catalogue.refresh()
    return {one.id: one.mark for one in bench.service.catalogue.sets()}


def new_keys(bench: Bench, before: Sequence[str]) -> list[str]:
    return [key for key in bench.all_keys() if key not in before]


def rotated_in(bench: Bench) -> list[str | None]:
    """What the documents of the bench's installation say, oldest first."""
    return [one.rotated for one in documents(bench)]


def documents(bench: Bench) -> list[InstanceDocument]:
    found = []
    for one in bench.store.list(naming.instances_prefix(PREFIX)):
        parsed = naming.parse_instance_document_key(PREFIX, one.key)
        if parsed and parsed[0] == bench.directory.instance():
            body = bench.bytes_of(one.key)
            found.append(load_instance(body, instance=parsed[0], at=parsed[1]))
    return found


def plant(bench: Bench, like: str, at: str, by: Any) -> str:
    """Store a set that is like another one, marked by somebody who has this key; its id."""
    manifest = json.loads(bench.bytes_of(bench.manifest_key(like)))
    manifest.update(id=at, instant=naming.instant_of(at).strftime("%Y-%m-%dT%H:%M:%SZ"))
    key = bench.manifest_key(at)
    put(bench.store, key, Marks([by], PREFIX).sign(key, json.dumps(manifest).encode()))
    return at


def test_keys_that_are_merely_added_all_count(opened: Open, made: list[str]) -> None:
    """The documented first step: a new key in front of the old one."""
    assert marks(opened(NEW, OLD)) == dict.fromkeys(made, "valid")


def test_each_set_gets_one_object_and_needs_the_old_key_no_more(
    opened: Open, made: list[str]
) -> None:
    """A host that has the new key alone finds all of them valid."""
    bench = opened(NEW, OLD)
    before = bench.all_keys()

    assert bench.service.rotation.mark_again() == (3, 0)

    keys = new_keys(bench, before)
    assert [key.rpartition("/")[0] for key in keys] == [f"{PREFIX}sets/{one}" for one in made]
    assert rotated_in(bench)[-1] == NEW.fingerprint
    elsewhere = opened(NEW, directory="next")
    assert marks(elsewhere) == dict.fromkeys(made, "valid")
    assert elsewhere.service.own_sets.required_latest().id == made[-1]


def test_marks_that_somebody_deletes_are_stored_again(
    opened: Open, made: list[str], clock: FixedClock
) -> None:
    """This host has them still: the next run stores the same bytes, so that the next host has them.

    Who asks the store in between owes them once, and loses none.
    """
    bench = opened(NEW, OLD)
    bench.service.rotation.mark_again()
    stored = {key: bench.bytes_of(key) for key in bench.all_keys() if "/mark-" in key}
    assert len(stored) == 3
    for key in stored:
        bench.store.delete(key)
    clock.advance(minutes=1)

    assert marks(bench) == marks(bench) == dict.fromkeys(made, "valid")
    assert len(bench.service.later_marks.owed()) == 3
    new = bench.made().id

    assert {key: bench.bytes_of(key) for key in bench.all_keys() if "/mark-" in key} == stored
    assert bench.service.later_marks.owed() == []
    assert marks(opened(NEW, directory="next")) == dict.fromkeys([*made, new], "valid")


def test_older_keys_count_until_the_running_app_has_the_new_one(
    opened: Open, made: list[str], clock: FixedClock
) -> None:
    """What an app that was not restarted makes after the command is ours, and is marked again."""
    app = opened(OLD, NEW)
    app.facts.note_leader_key(OLD.fingerprint)
    held = app.directory.scheduler_lease.try_acquire()
    assert held is not None
    app.directory.scheduler_lease.announce()
    bench = opened(NEW, OLD)
    try:
        with pytest.raises(RotationUnfinished, match=OLD.fingerprint) as refused:
            bench.service.rotation.mark_again()
        late = app.made().id
    finally:
        held.release()
    assert "Restart the app" in refused.value.hint

    assert bench.service.rotation.mark_again() == (1, 0)

    assert marks(opened(NEW, directory="next")) == dict.fromkeys([*made, late], "valid")


def test_verdicts_keep_their_weight(opened: Open, made: list[str], clock: FixedClock) -> None:
    """An acceptance and a failed proof that the old key has marked are marked again with it."""
    old = opened(OLD)
    old.service.acceptance.accept(made[0])
    clock.advance(minutes=1)
    old.service.verdicts.note_proof(made[1], "none", "it is damaged")
    clock.advance(minutes=1)

    opened(NEW, OLD).service.rotation.mark_again()

    elsewhere = opened(NEW, directory="next")
    elsewhere.service.catalogue.refresh()
    assert elsewhere.service.catalogue.accepted() == {made[0]}
    assert elsewhere.service.catalogue.get(made[1]).proof == "none"


def test_after_it_a_mark_by_the_old_key_alone_says_nothing(
    opened: Open, made: list[str], clock: FixedClock
) -> None:
    """Here and on each host that sees it; before it, the same mark is valid."""
    bench = opened(NEW, OLD)
    early = plant(bench, made[0], "20261122T003000Z", OLD)
    assert marks(bench)[early] == "valid"
    bench.store.delete(bench.manifest_key(early))
    marks(bench)

    bench.service.rotation.mark_again()
    late = plant(bench, made[0], "20261122T004000Z", OLD)

    assert marks(bench)[late] == "unsigned"
    elsewhere = opened(NEW, OLD, directory="next")
    elsewhere.service.writers.look()
    assert marks(elsewhere) == {**dict.fromkeys(made, "valid"), late: "unsigned"}


def test_a_set_that_is_planted_after_it_is_not_marked_again(
    opened: Open, made: list[str], clock: FixedClock
) -> None:
    """The thief of the old key gains nothing by a second rotation."""
    bench = opened(NEW, OLD)
    bench.service.rotation.mark_again()
    late = plant(bench, made[0], "20261122T004000Z", OLD)
    clock.advance(minutes=1)

    again = opened(NEXT, NEW, OLD)
    assert again.service.rotation.mark_again() == (3, 0)

    assert marks(again)[late] == "unsigned"
    assert rotated_in(again)[-1] == NEXT.fingerprint
    assert marks(opened(NEXT, directory="next")) == {
        **dict.fromkeys(made, "valid"),
        late: "unknown_key",
    }


def test_a_newer_key_that_is_added_later_ends_no_rotation(
    opened: Open, made: list[str], clock: FixedClock
) -> None:
    """The key before the last stays rotated away; the last one still counts."""
    bench = opened(NEW, OLD)
    bench.service.rotation.mark_again()
    late = plant(bench, made[0], "20261122T004000Z", OLD)
    clock.advance(days=2)
    added = opened(NEXT, NEW, OLD)
    added.made()

    assert rotated_in(added)[-1] == NEW.fingerprint
    elsewhere = opened(NEXT, NEW, OLD, directory="next")
    elsewhere.service.writers.look()
    found = marks(elsewhere)
    assert found.pop(late) == "unsigned"
    assert set(found.values()) == {"valid"}


@pytest.mark.parametrize("says", ["old", "new"])
def test_the_thief_of_an_old_key_cannot_say_that_it_was_rotated(
    opened: Open, made: list[str], clock: FixedClock, says: str
) -> None:
    """A document that the old key marks ends no mark of a newer one, whatever it says."""
    bench = opened(NEW, OLD)
    bench.service.rotation.mark_again()
    clock.advance(minutes=1)
    rotated = {"old": OLD, "new": NEW}[says].fingerprint
    planted = replace(documents(bench)[-1], instance="f" * 32, at=clock.now(), rotated=rotated)
    key = naming.instance_document_key(PREFIX, planted.instance, planted.at)
    body = Marks([OLD], PREFIX).sign(key, dump_instance(planted))
    bench.store.put(key, io.BytesIO(body), {})

    elsewhere = opened(NEW, OLD, directory="next")
    elsewhere.service.writers.look()

    assert marks(elsewhere) == dict.fromkeys(made, "valid")
    assert planted.instance not in elsewhere.service.writers.documents()
    only_planted = opened(NEXT, OLD, directory="third")
    only_planted.service.writers.look()
    assert only_planted.service.catalogue.rotated() <= {OLD.fingerprint}


def test_a_rotation_that_the_old_key_says_has_not_been(
    opened: Open, made: list[str], clock: FixedClock
) -> None:
    """Else its thief could end the marks of all that is not marked again yet."""
    bench = opened(NEW, OLD)
    planted = replace(
        documents(bench)[-1], instance="f" * 32, at=clock.now(), rotated=NEW.fingerprint
    )
    key = naming.instance_document_key(PREFIX, planted.instance, planted.at)
    body = Marks([OLD], PREFIX).sign(key, dump_instance(planted))
    bench.store.put(key, io.BytesIO(body), {})

    bench.service.writers.look()

    assert marks(bench) == dict.fromkeys(made, "valid")


def test_one_that_was_stopped_is_finished_by_the_same_command(
    opened: Open, made: list[str], store: WatchedStore
) -> None:
    """Until then nothing is said in the store, and all keys count; no set gets two marks."""
    bench = opened(NEW, OLD)
    before = bench.all_keys()
    store.break_at("put", len(store.keys("put")) + 1)

    with pytest.raises(RotationUnfinished, match="did not take marks with the first key"):
        bench.service.rotation.mark_again()

    assert NEW.fingerprint not in rotated_in(bench)
    store.mend()
    assert marks(opened(NEW, OLD, directory="next")) == dict.fromkeys(made, "valid")
    again = opened(NEW, OLD)
    again.service.rotation.mark_again()
    assert len(new_keys(again, before)) == 3
    assert rotated_in(again)[-1] == NEW.fingerprint


def test_one_that_was_killed_before_it_was_said_is_finished(
    opened: Open, made: list[str], store: WatchedStore, clock: FixedClock
) -> None:
    """All marks are stored, and the document is not: the same command stores it."""
    bench = opened(NEW, OLD)
    store.before("put", "instances/", _die)
    with pytest.raises(KeyboardInterrupt):
        bench.service.rotation.mark_again()
    clock.advance(minutes=1)

    assert opened(NEW, OLD).service.rotation.mark_again() == (0, 0)

    assert rotated_in(bench)[-1] == NEW.fingerprint


def test_a_set_under_a_key_that_is_not_here_is_named(opened: Open, made: list[str]) -> None:
    """Not all could be marked again, so nothing is said; the fingerprint is what to put back."""
    bench = opened(NEW)
    with pytest.raises(RotationUnfinished, match=OLD.fingerprint):
        bench.service.rotation.mark_again()

    assert NEW.fingerprint not in rotated_in(bench)


def test_a_run_that_is_in_progress_is_not_disturbed(
    opened: Open, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its set would be marked while the others are."""
    monkeypatch.setattr("backups.operations.marking.rotation._LEASE_WAIT_SECONDS", 0.0)
    bench = opened(NEW, OLD)
    held = bench.directory.run_lease.try_acquire()
    assert held is not None
    with pytest.raises(LeaseHeld):
        bench.service.rotation.mark_again()
    held.release()


def test_the_sets_of_others_are_not_marked(opened: Open, made: list[str]) -> None:
    """Another installation rotates for itself."""
    other = opened(OLD, directory="other").made().id
    bench = opened(NEW, OLD)

    assert bench.service.rotation.mark_again() == (3, 0)

    assert marks(opened(NEW, directory="next"))[other] == "unknown_key"


def test_the_command_encrypts_the_tokens_and_marks_the_sets(tmp_path: Path) -> None:
    """`./bot shared rotate-keys`: then a new host needs the new key alone."""
    installation = installation_in(tmp_path / "old", BACKUP_LOCAL_STORE=str(tmp_path / "bucket"))
    installation.make_databases()
    made = installation.json("run")["set"]
    new = a_token_key("new")
    both = installation.with_settings(TOKEN_ENCRYPTION_KEYS=f"{new},{TOKEN_ENCRYPTION_KEY}")

    done = run_warm(
        [both.command()[0], "-m", "shared", "rotate-keys"], cwd=both.folder, env=both.environment
    )

    assert done.returncode == 0, done.stderr
    assert "Re-encrypted 3 values with the first key" in done.stdout
    assert "Marked 1 set again with the first key" in done.stdout
    made_after = both.json("run")["set"]
    shutil.rmtree(tmp_path / "old")
    host = installation_in(
        tmp_path / "new",
        BACKUP_LOCAL_STORE=str(tmp_path / "bucket"),
        TOKEN_ENCRYPTION_KEYS=new,
    )
    host.tokens_path.parent.mkdir(parents=True)
    assert {one["id"] for one in host.json("list")["sets"]} == {made["id"], made_after["id"]}
    assert host.cli("restore", "--in-place", "--yes").returncode == 0
    host.json("adopt", made["instance"])
    assert "2 sets marked" in host.cli("status").stdout


def _die() -> None:
    raise KeyboardInterrupt
