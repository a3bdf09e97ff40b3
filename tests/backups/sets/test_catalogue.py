"""Tests of `backups.sets.catalogue`."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from backups.errors import ManifestInvalid, ManifestNewer, SetNotFound
from backups.format import naming
from backups.format.acceptance import Acceptance, dump_acceptance
from backups.format.manifest import dump_verdict, with_verdict
from backups.host.catalogues import open_catalogue
from backups.host.records import MIGRATIONS, open_records
from backups.model import BackupSet, Verdict
from backups.sets.catalogue import Catalogue
from shared.databases.sqlite import Database
from shared.errors import ObjectExists, StoreError, StoreListingIncomplete, StoreUnreachable
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from tests.backups.conftest import LogLines
from tests.support.clock import FixedClock
from tests.support.marks import MARKS, signed, signed_proof
from tests.support.records import INSTANT, a_manifest, a_set
from tests.support.store_wrappers import WatchedStore

PREFIX = "backups/"


@contextmanager
def opened(host: Path, store: ObjectStore, prefix: str = PREFIX) -> Iterator[Database]:
    """What the host with this `BACKUP_DIR` knows of a store."""
    with (
        closing(open_records(host)) as records,
        closing(open_catalogue(host, store, prefix, records)) as known,
    ):
        yield known


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def known(tmp_path: Path, store: WatchedStore) -> Iterator[Database]:
    with opened(tmp_path / "host", store) as database:
        yield database


@pytest.fixture
def catalogue(known: Database, store: WatchedStore) -> Catalogue:
    return Catalogue(known, store, PREFIX, FixedClock(INSTANT), marks=MARKS)


def days_ago(number: int) -> datetime:
    return INSTANT - timedelta(days=number)


def publish(store: ObjectStore, backup_set: BackupSet) -> BackupSet:
    """Put the objects and the manifest of a set into the store, as another host would."""
    for stored in backup_set.objects:
        with suppress(ObjectExists):
            store.put(stored.key, io.BytesIO(bytes(stored.bytes)), {"set-id": backup_set.id})
    key = naming.manifest_key(PREFIX, backup_set.id)
    store.put(key, io.BytesIO(a_manifest(backup_set)), {})
    return backup_set


def judge(store: ObjectStore, verdict: Verdict) -> Verdict:
    """Put a verdict into the store, as another host would."""
    key = naming.verdict_key(PREFIX, verdict.set_id, "proof", verdict.at)
    store.put(key, io.BytesIO(signed_proof(verdict)), {})
    return verdict


def put(store: ObjectStore, key: str, document: bytes) -> None:
    store.put(key, io.BytesIO(document), {})


def test_a_set_that_only_the_listing_lacks_is_not_forgotten(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """The store has the manifest when asked by name: the listing is reported, and all is kept.

    What is gone in truth is forgotten with the next complete listing.
    """
    hidden, gone, kept = (publish(store, a_set(days_ago(number))) for number in range(3))
    catalogue.refresh()
    store.inner.delete(naming.manifest_key(PREFIX, gone.id))
    store.unlisted = lambda _prefix, key: hidden.id in key

    with pytest.raises(StoreListingIncomplete, match=hidden.id):
        catalogue.refresh()

    assert [one.id for one in catalogue.sets()] == [hidden.id, gone.id, kept.id]
    assert catalogue.missing_points() == []
    store.unlisted = lambda _prefix, _key: False
    catalogue.refresh()
    assert [one.id for one in catalogue.sets()] == [hidden.id, kept.id]
    assert [one.point.id for one in catalogue.missing_points()] == [gone.id]


def test_a_set_whose_manifest_may_not_be_asked_for_is_not_forgotten(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """A refusal is no proof that the manifest is gone."""
    known = publish(store, a_set(INSTANT))
    catalogue.refresh()
    store.unlisted = lambda _prefix, _key: True
    store.refused = {naming.manifest_key(PREFIX, known.id)}

    with pytest.raises(StoreListingIncomplete):
        catalogue.refresh()

    assert [one.id for one in catalogue.sets()] == [known.id]


def test_it_is_rebuilt_from_the_store_alone(
    store: WatchedStore, tmp_path: Path, catalogue: Catalogue
) -> None:
    """A new host with empty records knows, after one refresh, all that the old one knew."""
    sets = [publish(store, a_set(days_ago(number))) for number in range(5)]
    judge(store, Verdict(sets[1].id, INSTANT, "none", "bytes differ"))
    catalogue.refresh()

    with opened(tmp_path / "new-host", store) as known:
        rebuilt = Catalogue(known, store, PREFIX, FixedClock(INSTANT), marks=MARKS)
        assert list(rebuilt.sets()) == []
        rebuilt.refresh()

        assert list(rebuilt.sets()) == list(catalogue.sets())
        assert [found.id for found in rebuilt.sets()] == [one.id for one in sets]
        assert rebuilt.newest_protecting() == sets[0]
        assert rebuilt.count() == 5
        assert not rebuilt.get(sets[1].id).protects


def test_it_survives_the_process(store: WatchedStore, tmp_path: Path) -> None:
    """What was learned is there in the next process, without the store."""
    published = publish(store, a_set())
    with opened(tmp_path / "host", store) as known:
        Catalogue(known, store, PREFIX, FixedClock(INSTANT), marks=MARKS).refresh()
    store.calls.clear()

    with opened(tmp_path / "host", store) as known:
        catalogue = Catalogue(known, store, PREFIX, FixedClock(INSTANT), marks=MARKS)
        assert list(catalogue.sets()) == [published]
        assert catalogue.newest_protecting() == published
        assert catalogue.last_contact_at() == INSTANT
    assert store.calls == []


def test_a_refresh_reads_only_what_is_new(store: WatchedStore, catalogue: Catalogue) -> None:
    """One listing each time, and a get for each document that was not known, never again."""
    for number in range(5):
        publish(store, a_set(days_ago(number)))
    catalogue.refresh()
    assert (len(store.keys("list")), len(store.keys("get"))) == (1, 5)

    store.calls.clear()
    catalogue.refresh()
    assert (len(store.keys("list")), store.keys("get")) == (1, [])

    store.calls.clear()
    new = publish(store, a_set(INSTANT + timedelta(days=1)))
    judge(store, Verdict(new.id, INSTANT + timedelta(days=2), "full", "read back"))
    store.calls.clear()
    catalogue.refresh()
    assert len(store.keys("list")) == 1
    assert sorted(store.keys("get")) == [
        naming.manifest_key(PREFIX, new.id),
        naming.verdict_key(PREFIX, new.id, "proof", INSTANT + timedelta(days=2)),
    ]


def test_it_forgets_what_was_pruned(store: WatchedStore, catalogue: Catalogue) -> None:
    """A set whose manifest is gone from the store is gone from the catalogue, verdicts too."""
    kept, pruned = publish(store, a_set()), publish(store, a_set(days_ago(1)))
    judge(store, Verdict(pruned.id, INSTANT, "none", "bytes differ"))
    catalogue.refresh()

    store.delete(naming.manifest_key(PREFIX, pruned.id))
    catalogue.refresh()

    assert list(catalogue.sets()) == [kept]
    with pytest.raises(SetNotFound, match=pruned.id):
        catalogue.get(pruned.id)
    store.delete(naming.verdict_key(PREFIX, pruned.id, "proof", INSTANT))
    publish(store, pruned)
    catalogue.refresh()
    assert catalogue.get(pruned.id) == pruned  # the old verdict was forgotten as well


def test_a_set_published_during_a_refresh_is_not_forgotten(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """A set that this host commits while a listing is under way stays known."""
    published = a_set()
    store.after("list", "", lambda: catalogue.add_manifest(published.id, a_manifest(published)))

    catalogue.refresh()

    assert catalogue.newest_protecting() == published


def test_a_set_pruned_during_a_refresh_is_no_error(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """A manifest that disappears between listing and get is passed over."""
    pruned, kept = publish(store, a_set(days_ago(1))), publish(store, a_set())
    key = naming.manifest_key(PREFIX, pruned.id)
    store.before("get", key, lambda: store.delete(key))

    catalogue.refresh()

    assert list(catalogue.sets()) == [kept]


def test_an_unreadable_manifest_stays_visible_and_does_not_count(
    store: WatchedStore, catalogue: Catalogue, log_lines: LogLines
) -> None:
    """A damaged manifest is an error by name when asked for, and no restore point at all."""
    good, damaged = publish(store, a_set(days_ago(1))), a_set()
    put(store, naming.manifest_key(PREFIX, damaged.id), a_manifest(damaged)[:-20])

    catalogue.refresh()

    assert list(catalogue.sets()) == [good]
    assert damaged.id in log_lines.text(logging.WARNING)
    assert catalogue.newest_protecting() == good
    assert catalogue.count() == 1
    with pytest.raises(ManifestInvalid, match=damaged.id):
        catalogue.get(damaged.id)


def test_a_manifest_of_a_later_program_is_kept_for_it(
    store: WatchedStore, tmp_path: Path, catalogue: Catalogue
) -> None:
    """A set of a newer format is named as that, and does not stop the others."""
    good, newer = publish(store, a_set(days_ago(1))), a_set().id
    put(store, naming.manifest_key(PREFIX, newer), b'{"format": 2}')

    catalogue.refresh()

    with pytest.raises(ManifestNewer, match="format 2"):
        catalogue.get(newer)
    assert catalogue.newest_protecting() == good


@pytest.mark.parametrize(
    "document",
    [
        a_manifest(a_set(days_ago(7))),
        a_manifest(a_set()).replace(b"backups/tokens_", b"other/tokens_"),
        a_manifest(a_set()).replace(b'"2026-11-22T01:00:00Z"', b'"0001-01-01T00:00:00+14:00"', 1),
        b"",
    ],
    ids=["of another set", "outside the prefix", "a time that does not exist in UTC", "empty"],
)
def test_a_manifest_of_a_stranger_stops_nothing(
    store: WatchedStore, catalogue: Catalogue, document: bytes
) -> None:
    """Whatever lies under a manifest's key, the other sets are listed and one protects."""
    good = publish(store, a_set(days_ago(1)))
    put(store, naming.manifest_key(PREFIX, a_set().id), document)

    catalogue.refresh()

    assert list(catalogue.sets()) == [good]
    assert catalogue.newest_protecting() == good


def test_what_is_not_ours_below_the_sets_is_passed_over(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """Other names, and folders without a manifest, are not read and are no sets."""
    good = publish(store, a_set())
    for key in ("sets/note.txt", "sets/20261122T010000Z/note.txt", "sets/x/manifest.json"):
        put(store, f"{PREFIX}{key}", b"{}")
    judge(store, Verdict(naming.set_id(days_ago(3)), INSTANT, "none", "an orphan's verdict"))
    store.calls.clear()

    catalogue.refresh()

    assert store.keys("get") == [naming.manifest_key(PREFIX, good.id)]
    assert list(catalogue.sets()) == [good]


def test_the_latest_verdict_counts(store: WatchedStore, catalogue: Catalogue) -> None:
    """Verdicts of other hosts are applied, and of several the one with the latest time."""
    published = publish(store, a_set(days_ago(4)))
    newer = publish(store, a_set(days_ago(3)))
    failed = judge(store, Verdict(newer.id, days_ago(2), "none", "differs"))
    catalogue.refresh()
    assert catalogue.get(newer.id) == with_verdict(newer, failed)
    assert catalogue.newest_protecting() == published

    proven = judge(store, Verdict(newer.id, days_ago(1), "full", "read back"))
    catalogue.refresh()
    assert catalogue.get(newer.id) == with_verdict(newer, proven)
    assert catalogue.newest_protecting() == with_verdict(newer, proven)


def test_a_verdict_that_cannot_be_read_changes_nothing(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """A damaged verdict, or one on another set, is passed over with a warning."""
    published = publish(store, a_set())
    for seconds, document in enumerate(
        (b"{", dump_verdict(Verdict(naming.set_id(days_ago(1)), INSTANT, "none", "other")))
    ):
        at = INSTANT + timedelta(seconds=seconds)
        put(store, naming.verdict_key(PREFIX, published.id, "proof", at), document)

    catalogue.refresh()

    assert catalogue.get(published.id) == published


@pytest.mark.parametrize(
    "other",
    [{"complete": False}, {"proof": "none"}, {"suspect": ("empty",)}, {"kind": "pre-restore"}],
)
def test_a_set_that_does_not_protect_is_listed_only(
    store: WatchedStore, catalogue: Catalogue, other: dict[str, object]
) -> None:
    """The newest set that protects is meant by `latest`, not simply the newest."""
    good, newest = publish(store, a_set(days_ago(1))), publish(store, a_set(INSTANT, **other))

    catalogue.refresh()

    assert list(catalogue.sets()) == [newest, good]
    assert catalogue.newest_protecting() == good


def test_sets_come_newest_first_from_any_place(store: WatchedStore, catalogue: Catalogue) -> None:
    """A page begins behind the id that is given."""
    ids = [publish(store, a_set(days_ago(number))).id for number in range(4)]
    catalogue.refresh()

    assert [found.id for found in catalogue.sets()] == ids
    assert [found.id for found in catalogue.sets(before=ids[1])] == ids[2:]
    assert list(catalogue.sets(before=ids[-1])) == []


def test_a_store_that_does_not_answer_leaves_it_as_it_was(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """A failed refresh raises, forgets nothing, and the next one goes on where it stopped."""
    known = publish(store, a_set(days_ago(1)))
    catalogue.refresh()
    new = publish(store, a_set())

    def fail() -> None:
        raise StoreUnreachable("no answer")

    store.before("get", new.id, fail)
    with pytest.raises(StoreError):
        catalogue.refresh()
    assert list(catalogue.sets()) == [known]

    store.before("list", "", fail)
    with pytest.raises(StoreError):
        catalogue.refresh()
    assert list(catalogue.sets()) == [known]

    catalogue.refresh()
    assert list(catalogue.sets()) == [new, known]


def test_the_last_contact_is_remembered(
    known: Database, store: WatchedStore, catalogue: Catalogue
) -> None:
    """Status can tell when the store last answered, and a failure does not count as that."""
    assert catalogue.last_contact_at() is None
    catalogue.refresh()
    assert catalogue.last_contact_at() == INSTANT

    later = Catalogue(known, store, PREFIX, FixedClock(INSTANT + timedelta(hours=1)), marks=MARKS)

    def fail() -> None:
        raise StoreUnreachable("no answer")

    store.before("list", "", fail)
    with pytest.raises(StoreError):
        later.refresh()
    assert later.last_contact_at() == INSTANT
    later.refresh()
    assert later.last_contact_at() == INSTANT + timedelta(hours=1)


def test_what_is_taken_in_is_known_at_once(catalogue: Catalogue) -> None:
    """A set that this host has just made is there without asking the store."""
    made = a_set()
    assert not catalogue.has(made.id)

    catalogue.add_manifest(made.id, a_manifest(made))

    assert catalogue.has(made.id)
    assert catalogue.get(made.id) == made


def test_plans_and_counts_read_no_document(
    known: Database, store: WatchedStore, catalogue: Catalogue
) -> None:
    """What is asked of all restore points at once comes from one table, however many there are."""
    sets = [publish(store, a_set(days_ago(number))) for number in range(20)]
    judge(store, Verdict(sets[0].id, INSTANT, "none", "bytes differ"))
    catalogue.refresh()
    points = catalogue.points()
    with known.transaction() as connection:  # whoever reads a document now meets a fault
        connection.execute("UPDATE sets SET manifest = x'' WHERE id <> ?", (sets[1].id,))
        connection.execute("UPDATE verdicts SET document = x''")

    assert catalogue.points() == points
    assert [(one.id, one.created_at, one.bytes) for one in points] == [
        (one.id, one.created_at, one.bytes) for one in sets
    ]
    assert [one.protects for one in points] == [False, *[True] * 19]
    assert catalogue.count() == 20
    assert catalogue.has(sets[19].id)
    assert catalogue.newest_protecting() == sets[1]
    assert catalogue.latest({sets[1].instance}) == sets[1]


def test_points_say_what_the_sets_say(store: WatchedStore, catalogue: Catalogue) -> None:
    """Every way in which a set can be known leaves the same in the table as in its documents."""
    publish(store, a_set(days_ago(1), kind="pre-restore", complete=False, trigger="pre-restore"))
    publish(store, a_set(days_ago(2), suspect=("empty",), instance="fedcba9876543210"))
    judged = publish(store, a_set(days_ago(3) + timedelta(microseconds=123_456)))
    put(store, f"{PREFIX}tokens_2025-07-04.db", b"left by the old scripts")
    put(store, f"{PREFIX}sessions_2025-07-04.db", b"left by the old scripts")
    catalogue.refresh()
    catalogue.add_manifest(publish(store, a_set()).id, a_manifest(a_set()))
    judge(store, Verdict(judged.id, INSTANT, "none", "differs"))
    accepted = naming.verdict_key(PREFIX, naming.set_id(days_ago(2)), "accept", INSTANT)
    put(
        store,
        accepted,
        signed(accepted, dump_acceptance(Acceptance(naming.set_id(days_ago(2)), INSTANT))),
    )
    catalogue.refresh()

    def said() -> list[tuple[object, ...]]:
        return [
            (
                o.id,
                o.kind,
                o.created_at,
                o.trigger,
                o.instance,
                o.protects,
                o.bytes,
                o.sequence,
                False,
                o.mark,
            )
            for o in catalogue.sets()
        ]

    assert [tuple(vars(one).values()) for one in catalogue.points()] == said()
    assert len(said()) == catalogue.count() == 5

    store.delete(f"{PREFIX}tokens_2025-07-04.db")
    store.delete(f"{PREFIX}sessions_2025-07-04.db")
    catalogue.refresh()

    assert [tuple(vars(one).values()) for one in catalogue.points()] == said()
    assert len(said()) == catalogue.count() == 4


def test_what_another_process_learns_is_known_here(
    store: WatchedStore, tmp_path: Path, catalogue: Catalogue
) -> None:
    """Two processes with one `BACKUP_DIR` see each other's sets, verdicts and prunings at once."""
    sets = [publish(store, a_set(days_ago(number))) for number in range(2)]
    assert catalogue.points() == []
    with opened(tmp_path / "host", store) as known:
        other = Catalogue(known, store, PREFIX, FixedClock(INSTANT), marks=MARKS)
        other.refresh()
        assert catalogue.newest_protecting() == sets[0]
        judge(store, Verdict(sets[0].id, INSTANT, "none", "differs"))
        other.refresh()
        assert catalogue.newest_protecting() == sets[1]
        other.forget(sets[1].id)
        assert catalogue.newest_protecting() is None
        assert [one.id for one in catalogue.points()] == [sets[0].id]


def test_records_of_an_earlier_program_are_taken_over(store: WatchedStore, tmp_path: Path) -> None:
    """Records from before there was a table of points show the same sets, without the store."""
    path = tmp_path / "earlier" / "runs.db"
    published = publish(store, a_set())
    with closing(Database(path, MIGRATIONS[:1])) as earlier, earlier.transaction() as connection:
        connection.execute(
            "INSERT INTO sets VALUES (?, ?), ('20200101T000000Z', x'')",
            (published.id, a_manifest(published)),
        )
        connection.execute(
            "INSERT INTO verdicts VALUES (?, 'proof-20261122T010000Z', ?)",
            (published.id, signed_proof(Verdict(published.id, INSTANT, "none", "differs"))),
        )
        connection.executemany(
            "INSERT INTO dated_objects VALUES (?, 4096, '2025-07-04T01:00:00Z', 1)",
            [(f"{PREFIX}{source}_2025-07-04.db",) for source in ("tokens", "sessions")],
        )
    store.calls.clear()

    with opened(path.parent, store) as known:
        catalogue = Catalogue(known, store, PREFIX, FixedClock(INSTANT), marks=MARKS)
        assert catalogue.latest() is None
        assert [one.id for one in catalogue.newest_unmarked()] == ["legacy-2025-07-04"]
        assert [one.id for one in catalogue.points()] == [published.id, "legacy-2025-07-04"]
        assert catalogue.has("20200101T000000Z")
    assert store.calls == []


def test_more_sets_than_are_read_at_a_time_are_all_listed(catalogue: Catalogue) -> None:
    """The iteration over all sets has no end before the last one, and none twice."""
    ids = [a_set(days_ago(number)).id for number in range(205)]
    for number in range(205):
        catalogue.add_manifest(ids[number], a_manifest(a_set(days_ago(number))))

    assert [found.id for found in catalogue.sets()] == ids
    assert [found.id for found in catalogue.sets(before=ids[2])] == ids[3:]
