"""Restore points that the store lost without our prune: vanished, and hollow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import backups.status
from backups.decisions.health import Health, assess
from backups.decisions.protection import HealthFacts
from backups.format import naming
from backups.model import BackupSet
from backups.sets.catalogue import Catalogue
from shared.databases.sqlite import Database
from shared.errors import StoreListingIncomplete
from shared.store.directory import DirectoryStore
from tests.backups.conftest import LogLines
from tests.backups.sets.test_catalogue import days_ago, opened, publish, put
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.marks import MARKS
from tests.support.records import INSTANT, a_manifest, a_set, a_stored_object
from tests.support.store_wrappers import WatchedStore

PREFIX = "backups/"
OTHERS = "fedcba9876543210"


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def known(tmp_path: Path, store: WatchedStore) -> Iterator[Database]:
    with opened(tmp_path / "host", store) as database:
        yield database


@pytest.fixture
def catalogue(known: Database, store: WatchedStore) -> Catalogue:
    ours = {a_set().instance}
    return Catalogue(known, store, PREFIX, FixedClock(INSTANT), ours=lambda: ours, marks=MARKS)


def empty(store: WatchedStore) -> None:
    """Delete all that is stored, as somebody with a bucket key could."""
    for one in store.inner.list(""):
        store.inner.delete(one.key)


def missing(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Id and kind of what is missing."""
    return [(one.point.id, one.point.kind) for one in catalogue.missing_points()]


def errors(log_lines: LogLines) -> list[str]:
    """The messages of the error log."""
    return [one.getMessage() for one in log_lines.records if one.levelno >= logging.ERROR]


# --- vanished ---------------------------------------------------------------------------


def test_sets_that_vanish_are_named_once_and_remembered(
    store: WatchedStore, catalogue: Catalogue, log_lines: LogLines
) -> None:
    """An emptied bucket is an error of the log for each set, once, and a missing point of each."""
    made = [publish(store, a_set(days_ago(number))) for number in range(3)]
    catalogue.refresh()
    empty(store)

    for _ in range(3):
        catalogue.refresh()

    assert list(catalogue.sets()) == []
    assert missing(catalogue) == [(one.id, "vanished") for one in made]
    assert [one.point.created_at for one in catalogue.missing_points()] == [
        one.created_at for one in made
    ]
    assert len(errors(log_lines)) == 3
    assert all(any(one.id in line for line in errors(log_lines)) for one in made)


def test_what_vanished_and_is_back_is_a_restore_point_again(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """Somebody who restores the bucket from its versions has to say nothing to anybody."""
    made = publish(store, a_set())
    catalogue.refresh()
    empty(store)
    catalogue.refresh()
    assert missing(catalogue) == [(made.id, "vanished")]

    publish(store, made)
    catalogue.refresh()

    assert missing(catalogue) == []
    assert catalogue.latest() == made


def test_the_sets_of_another_installation_are_not_missed(
    store: WatchedStore, catalogue: Catalogue, log_lines: LogLines
) -> None:
    """What others prune in the same bucket is their affair."""
    publish(store, a_set(instance=OTHERS))
    catalogue.refresh()
    empty(store)

    catalogue.refresh()

    assert missing(catalogue) == []
    assert errors(log_lines) == []


def test_an_old_object_that_vanishes_is_missed(
    store: WatchedStore, catalogue: Catalogue, log_lines: LogLines
) -> None:
    """One object of a group of the old scripts is enough, and its return ends it."""
    keys = [f"{PREFIX}{source}_2025-07-04.db" for source in ("tokens", "sessions")]
    for key in keys:
        put(store, key, b"left by the old scripts")
    catalogue.refresh()
    store.inner.delete(keys[0])

    for _ in range(2):
        catalogue.refresh()

    assert missing(catalogue) == [("legacy-2025-07-04", "vanished")]
    assert len(errors(log_lines)) == 1
    assert "legacy-2025-07-04" in errors(log_lines)[0]
    put(store, keys[0], b"left by the old scripts")
    catalogue.refresh()
    assert missing(catalogue) == []


def test_an_old_object_that_only_the_listing_lacks_is_kept(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """The store returns it by name: the listing is not complete, and nothing is missing."""
    for source in ("tokens", "sessions"):
        put(store, f"{PREFIX}{source}_2025-07-04.db", b"left by the old scripts")
    catalogue.refresh()
    store.unlisted = lambda _prefix, key: "tokens" in key

    with pytest.raises(StoreListingIncomplete, match="tokens_2025-07-04"):
        catalogue.refresh()

    assert missing(catalogue) == []
    assert [len(one.objects) for one in catalogue.sets()] == [2]


# --- hollow -----------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["gone", "another size"])
def test_a_set_without_its_objects_is_hollow_until_they_are_back(
    store: WatchedStore, catalogue: Catalogue, log_lines: LogLines, harm: str
) -> None:
    """It is named once, has no proof, and protects nothing; the older set is `latest`."""
    older, made = publish(store, a_set(days_ago(1))), publish(store, a_set())
    catalogue.refresh()
    key = made.objects[0].key
    store.inner.delete(key)
    if harm == "another size":
        put(store.inner, key, b"cut")

    for _ in range(2):
        catalogue.refresh()

    found = catalogue.get(made.id)
    assert (found.hollow, found.proof, found.proven_at) == (True, "none", None)
    assert missing(catalogue) == [(made.id, "hollow")]
    assert catalogue.newest_protecting() == older
    assert catalogue.latest() == older
    assert [one.protects for one in catalogue.points()] == [False, True]
    assert len(errors(log_lines)) == 1
    assert made.id in errors(log_lines)[0]
    assert key in errors(log_lines)[0]

    store.inner.delete(key)
    put(store.inner, key, bytes(made.objects[0].bytes))
    catalogue.refresh()
    assert missing(catalogue) == []
    assert catalogue.latest() == made


def test_a_set_whose_manifest_was_cut_short_is_hollow(
    store: WatchedStore, catalogue: Catalogue, log_lines: LogLines
) -> None:
    """What this host remembers of the manifest helps no other host to restore it."""
    older, made = publish(store, a_set(days_ago(1))), publish(store, a_set())
    catalogue.refresh()
    key, whole = naming.manifest_key(PREFIX, made.id), a_manifest(made)
    store.inner.delete(key)
    put(store.inner, key, whole[:100])

    catalogue.refresh()

    assert missing(catalogue) == [(made.id, "hollow")]
    assert catalogue.latest() == older
    assert key in errors(log_lines)[0]
    store.inner.delete(key)
    put(store.inner, key, whole)
    catalogue.refresh()
    assert missing(catalogue) == []
    assert catalogue.latest() == made


def test_another_process_reads_a_hollow_set_as_one(
    store: WatchedStore, known: Database, catalogue: Catalogue
) -> None:
    """What one process found, all of the host and a later start know without the network."""
    made = publish(store, a_set())
    catalogue.refresh()
    store.inner.delete(made.objects[0].key)
    catalogue.refresh()
    store.calls.clear()

    later = Catalogue(known, store, PREFIX, FixedClock(INSTANT), marks=MARKS)
    assert later.get(made.id).hollow
    assert later.newest_protecting() is None
    assert store.calls == []


def test_a_hollow_set_of_another_installation_protects_nothing_and_is_no_alarm(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """`latest` does not mean it, and it is theirs to mend."""
    made = publish(store, a_set(instance=OTHERS))
    store.inner.delete(made.objects[0].key)

    catalogue.refresh()

    assert catalogue.latest() is None
    assert missing(catalogue) == []


def test_a_hollow_set_whose_manifest_goes_too_has_vanished(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """It is one missing point still."""
    made = publish(store, a_set())
    catalogue.refresh()
    store.inner.delete(made.objects[0].key)
    catalogue.refresh()

    empty(store)
    catalogue.refresh()

    assert missing(catalogue) == [(made.id, "vanished")]


# --- no false alarms --------------------------------------------------------------------


def test_a_set_published_during_a_listing_is_not_hollow(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """Its objects are not in a listing that is older, but the store has them by name."""
    made = a_set()

    def publish_now() -> None:
        publish(store.inner, made)
        catalogue.add_manifest(made.id, a_manifest(made))

    store.after("list", "", publish_now)
    catalogue.refresh()

    assert missing(catalogue) == []
    assert catalogue.latest() == made


def test_a_set_that_another_host_prunes_during_a_listing_is_not_hollow(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """Manifests go first: objects that are gone without one are no sign of a loss."""
    made = publish(store, a_set(instance=OTHERS))
    catalogue.refresh()
    key = made.objects[0].key
    store.unlisted = lambda _prefix, listed: listed == key
    store.before("head", key, lambda: empty(store))

    catalogue.refresh()

    assert not catalogue.get(made.id).hollow


@pytest.mark.parametrize("refusal", [True, False])
def test_an_object_that_only_the_listing_lacks_is_no_loss(
    store: WatchedStore, catalogue: Catalogue, refusal: bool
) -> None:
    """The store returns the object by name, or does not say: neither proves that it is gone."""
    made = publish(store, a_set())
    catalogue.refresh()
    key = made.objects[0].key
    store.unlisted = lambda _prefix, listed: listed == key
    store.refused = {key} if refusal else set()

    catalogue.refresh()

    assert missing(catalogue) == []
    assert catalogue.latest() == made


def test_an_incomplete_listing_records_no_loss(store: WatchedStore, catalogue: Catalogue) -> None:
    """While the store hides a manifest that it has, neither vanished nor hollow sets are noted."""
    hidden, vanished, hollow = (publish(store, a_set(days_ago(number))) for number in range(3))
    catalogue.refresh()
    store.inner.delete(naming.manifest_key(PREFIX, vanished.id))
    store.inner.delete(hollow.objects[0].key)
    store.unlisted = lambda _prefix, key: hidden.id in key

    with pytest.raises(StoreListingIncomplete):
        catalogue.refresh()
    assert missing(catalogue) == []

    store.unlisted = lambda _prefix, _key: False
    catalogue.refresh()
    assert missing(catalogue) == [(vanished.id, "vanished"), (hollow.id, "hollow")]


def test_a_manifest_that_cannot_be_read_does_not_stop_the_look(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """Bytes that are no JSON lie beside a hollow set, which is found."""
    made = publish(store, a_set())
    put(store, naming.manifest_key(PREFIX, naming.set_id(days_ago(2))), b'\xff{"objects": [')
    store.inner.delete(made.objects[0].key)

    catalogue.refresh()

    assert missing(catalogue) == [(made.id, "hollow")]


# --- with a whole service ---------------------------------------------------------------


def lose_objects(bench: Bench, lost: BackupSet) -> None:
    """Delete the data objects of a set, but not its manifest."""
    for stored in lost.objects:
        bench.watched.inner.delete(stored.key)


def test_a_prune_of_ours_is_no_loss(bench: Bench, clock: FixedClock) -> None:
    """Another process that looks in the middle of a prune sees a set going, and no alarm."""
    old = bench.made()
    clock.advance(days=2000)
    looked: list[int] = []

    def look() -> None:
        bench.service.catalogue.refresh()
        looked.append(len(bench.service.catalogue.missing_points()))

    bench.watched.after("delete", bench.manifest_key(old.id), look)

    bench.made()  # and prunes

    assert looked == [0]
    assert bench.manifest_key(old.id) not in bench.manifests()
    bench.service.catalogue.refresh()
    assert bench.service.own_sets.missing_points() == ()


def test_a_loss_is_a_problem_until_it_is_accepted_and_a_newer_set_is_proven(
    either_bench: Bench, clock: FixedClock
) -> None:
    """Neither of the two is enough alone."""
    bench = either_bench
    first = bench.made()
    clock.advance(hours=1)
    lost = bench.made()
    bench.watched.inner.delete(bench.manifest_key(lost.id))
    lose_objects(bench, first)
    bench.service.own_sets.refresh()
    assert [one.id for one in bench.service.own_sets.missing_points()] == [lost.id, first.id]

    accepted = bench.service.acceptance.accept_missing()
    assert [one.id for one in accepted] == [lost.id, first.id]
    assert [one.id for one in bench.service.own_sets.missing_points()] == [lost.id, first.id]
    clock.advance(hours=1)
    newer = bench.made()  # under the key of the day, which is free again
    bench.service.own_sets.refresh()
    assert newer.objects[0].key == first.objects[0].key
    assert bench.service.own_sets.missing_points() == ()
    assert bench.service.catalogue.get(first.id).hollow

    lose_objects(bench, newer)
    clock.advance(hours=1)
    bench.made()
    bench.service.own_sets.refresh()
    assert [one.id for one in bench.service.own_sets.missing_points()] == [newer.id]
    bench.service.acceptance.accept_missing()
    assert bench.service.own_sets.missing_points() == ()


def test_a_hollow_set_stays_as_evidence_until_its_loss_is_accepted(
    bench: Bench, clock: FixedClock
) -> None:
    """It is kept however old it is, stands for no day, and pushes no good set out."""
    good = bench.made()
    clock.advance(hours=1)
    hollow = bench.made()
    lose_objects(bench, hollow)
    clock.advance(days=10)
    bench.made()
    bench.service.own_sets.refresh()

    reasons = {one.backup_set.id: one.reasons for one in bench.service.own_sets.plan_prune().keep}
    assert "last of its day" in reasons[good.id]
    assert reasons[hollow.id] == ("hollow: objects are missing",)
    assert bench.prune().status == "succeeded"
    assert bench.manifest_key(hollow.id) in bench.manifests()

    bench.service.acceptance.accept_missing()
    assert bench.prune().status == "succeeded"
    assert bench.manifest_key(hollow.id) not in bench.manifests()
    assert bench.service.own_sets.missing_points() == ()


def test_a_hollow_set_by_its_id_says_what_is_missing(bench: Bench) -> None:
    """`verify` and `restore` of it try, and name the object; the plan warns before."""
    made = bench.made()
    bench.forget_copies()
    lose_objects(bench, made)
    bench.service.own_sets.refresh()

    plan = bench.service.restore.plan(made.id)
    assert [one.code for one in plan.warnings] == ["hollow"]
    for run in (bench.verify(made.id), bench.restore(made.id, to=bench.folder / "to")):
        assert run.error is not None
        assert run.error.code == "proof_failed"
        assert made.objects[0].key in run.error.message


def test_status_has_the_missing_points(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts that health is judged by name what was lost."""
    judged: list[HealthFacts] = []

    def watch(facts: HealthFacts) -> Health:
        judged.append(facts)
        return assess(facts)

    monkeypatch.setattr(backups.status, "assess", watch)
    made = bench.made()
    empty(bench.watched)
    bench.service.own_sets.refresh()

    bench.service.status()

    assert [one.id for one in judged[-1].missing_points] == [made.id]


def test_an_older_set_does_not_end_the_problem(bench: Bench, clock: FixedClock) -> None:
    """What was lost is newer than what is left: that is a problem until there is a newer one."""
    bench.made()
    clock.advance(hours=1)
    lost = bench.made()
    lose_objects(bench, lost)
    bench.service.own_sets.refresh()

    bench.service.acceptance.accept_missing()

    assert [one.id for one in bench.service.own_sets.missing_points()] == [lost.id]
    clock.advance(hours=1)
    bench.made()
    assert bench.service.own_sets.missing_points() == ()


def test_a_point_with_a_time_in_the_future_can_be_accepted(bench: Bench, clock: FixedClock) -> None:
    """No set will ever be newer by its time: it counts as old as the moment it was missed."""
    clock.advance(days=365)
    bench.made()
    clock.advance(days=-365)
    empty(bench.watched)
    bench.service.own_sets.refresh()
    bench.service.acceptance.accept_missing()
    clock.advance(minutes=1)

    bench.made()

    assert bench.service.own_sets.missing_points() == ()


def test_a_loss_that_was_noticed_by_a_clock_ahead_ends_when_it_is_right(
    bench: Bench, clock: FixedClock
) -> None:
    """Also a loss of a set of then: it is no problem for as long as the clock was ahead."""
    bench.made()
    clock.step(days=365)
    bench.made()
    empty(bench.watched)
    bench.service.own_sets.refresh()
    clock.step(days=-365)
    clock.advance(minutes=1)
    assert len(bench.service.own_sets.missing_points()) == 2
    clock.advance(minutes=1)
    bench.service.acceptance.accept_missing()
    assert len(bench.service.own_sets.missing_points()) == 2

    bench.made()

    assert bench.service.own_sets.missing_points() == ()
    clock.advance(days=365)
    assert bench.service.own_sets.missing_points() == ()


def test_the_commands_accept_what_is_missing(tmp_path: Path) -> None:
    """`accept --missing` prints what was lost, and takes no set besides."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        made = bench.made()
        for stored in made.objects:
            bench.store.delete(stored.key)
        bench.service.own_sets.refresh()
        (listed,) = bench.installation.json("list")["sets"]
        assert (listed["proof"], listed["hollow"]) == ("none", True)
        assert "hollow: objects are missing" in bench.installation.cli("list").stdout

        document = bench.installation.json("accept", "--missing")

        assert [(one["id"], one["kind"]) for one in document["missing"]] == [(made.id, "hollow")]
        assert "remains a problem" in bench.installation.cli("accept", "--missing").stdout
        assert bench.installation.cli("accept").returncode == 2
        assert bench.installation.cli("accept", made.id, "--missing").returncode == 2


def test_two_sources_of_one_day_are_told_apart(store: WatchedStore, catalogue: Catalogue) -> None:
    """Every object of a set counts, not only its first."""
    extra = a_stored_object("shop", bytes=4096)
    made = publish(store, a_set(objects=(*a_set().objects, extra)))
    catalogue.refresh()
    assert missing(catalogue) == []

    store.inner.delete(extra.key)
    catalogue.refresh()

    assert missing(catalogue) == [(made.id, "hollow")]
