"""What is believed of the documents in the store: only what carries a mark of ours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.format import naming
from backups.format.acceptance import Acceptance, dump_acceptance
from backups.format.later_mark import dump_later_mark
from backups.format.manifest import Aside, dump_aside, dump_drill, dump_verdict
from backups.format.mark import Marks, sha256_of
from backups.host.catalogues import open_catalogue
from backups.host.records import open_records
from backups.model import BackupSet, DrillReport, Mark, Verdict
from backups.sets.catalogue import Catalogue
from shared.databases.sqlite import Database
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from tests.backups.conftest import LogLines
from tests.support.clock import FixedClock
from tests.support.marks import MARK_KEY, MARKS, PREFIX, a_token_key, mark_key_of, signed
from tests.support.records import INSTANT, a_manifest, a_set

OTHER_KEY = mark_key_of(a_token_key("a key that was rotated away"))
THIEF = Marks([mark_key_of(a_token_key("the key of a thief"))], PREFIX)
LATER = INSTANT + timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def known(tmp_path: Path, store: ObjectStore) -> Iterator[Database]:
    with (
        closing(open_records(tmp_path / "host")) as records,
        closing(open_catalogue(tmp_path / "host", store, PREFIX, records)) as database,
    ):
        yield database


def catalogue_of(known: Database, store: ObjectStore, *, marks: Marks = MARKS) -> Catalogue:
    """What a process with the keys of `marks` knows, on the same host."""
    return Catalogue(known, store, PREFIX, FixedClock(LATER), marks=marks)


@pytest.fixture
def catalogue(known: Database, store: ObjectStore) -> Catalogue:
    return catalogue_of(known, store)


def put(store: ObjectStore, key: str, document: bytes) -> None:
    store.put(key, io.BytesIO(document), {})


def publish(store: ObjectStore, backup_set: BackupSet, document: bytes | None = None) -> BackupSet:
    """Put the objects and the manifest of a set into the store."""
    for stored in backup_set.objects:
        put(store, stored.key, bytes(stored.bytes))
    put(store, naming.manifest_key(PREFIX, backup_set.id), document or a_manifest(backup_set))
    return backup_set


def unsigned(days: int = 0, **other: Any) -> BackupSet:
    """A set of so many days ago, which says of itself that it is good, and has no mark."""
    instant = INSTANT - timedelta(days=days)
    return a_set(instant, mark="unsigned", mark_key=None, **other)


def marked_later(
    store: ObjectStore, set_id: str, names: dict[str, bytes], *, marks: Marks = MARKS
) -> None:
    """Put a later mark on these documents of a set."""
    key = naming.verdict_key(PREFIX, set_id, "mark", LATER)
    document = dump_later_mark(set_id, LATER, {n: sha256_of(d) for n, d in names.items()})
    put(store, key, marks.sign(key, document))


def test_an_unsigned_set_is_never_what_latest_means(
    store: ObjectStore, catalogue: Catalogue
) -> None:
    """A planted set that is newer than ours, with a high number, is listed, and counts for nothing:
    neither as the newest, nor as an installation, nor with its number."""
    ours = publish(store, a_set(INSTANT - timedelta(days=2), sequence=3))
    planted = publish(store, unsigned(sequence=2**50))
    other = publish(store, unsigned(days=1, instance="f" * 16))
    catalogue.refresh()

    assert [one.id for one in catalogue.sets()] == [planted.id, other.id, ours.id]
    assert catalogue.get(planted.id).mark == "unsigned"
    assert not catalogue.get(planted.id).protects
    assert catalogue.newest_protecting() == ours
    assert [one.mark for one in catalogue.points()] == ["unsigned", "unsigned", "valid"]
    assert [one.protects for one in catalogue.points()] == [False, False, True]
    assert [(one.instance, one.count) for one in catalogue.by_instance()] == [(ours.instance, 1)]
    assert not catalogue.has_protecting({other.instance})
    assert [one.sequence for one in catalogue.points()] == [None, None, 3]


def test_the_four_outcomes_are_told_apart(store: ObjectStore, catalogue: Catalogue) -> None:
    """Valid, unsigned, marked with a key that is not here, and wrong; with the key's fingerprint.

    Wrong are a manifest that was changed, and one that was copied under the id of another set.
    """
    valid = publish(store, a_set())
    changed = publish(
        store,
        a_set(INSTANT - timedelta(days=1)),
        a_manifest(a_set(INSTANT - timedelta(days=1))).replace(b'"scheduled"', b'"manual"'),
    )
    unknown = a_set(INSTANT - timedelta(days=2))
    key = naming.manifest_key(PREFIX, unknown.id)
    publish(store, unknown, Marks([OTHER_KEY], PREFIX).sign(key, a_manifest(unknown)))
    none = publish(store, unsigned(days=3))
    copied = a_set(INSTANT - timedelta(days=4))
    publish(store, copied, signed(naming.manifest_key(PREFIX, valid.id), a_manifest(copied)))
    catalogue.refresh()

    found = {one.id: (one.mark, one.mark_key) for one in catalogue.sets()}
    assert found == {
        valid.id: ("valid", MARK_KEY.fingerprint),
        changed.id: ("wrong", MARK_KEY.fingerprint),
        unknown.id: ("unknown_key", OTHER_KEY.fingerprint),
        none.id: ("unsigned", None),
        copied.id: ("wrong", MARK_KEY.fingerprint),
    }
    assert [one.id for one in catalogue.sets() if one.protects] == [valid.id]


def test_a_later_mark_makes_a_document_valid(store: ObjectStore, catalogue: Catalogue) -> None:
    """A valid `mark-` document vouches for the manifest, and the verdicts, whose SHA-256 it names;
    not for one that was changed since."""
    older = publish(store, unsigned())
    other = publish(store, unsigned(days=1))
    failed = dump_verdict(Verdict(older.id, INSTANT, "none", "differs"))
    name = naming.verdict_name("proof", INSTANT)
    put(store, naming.document_key(PREFIX, older.id, name), failed)
    marked_later(store, older.id, {"manifest": a_manifest(older)})
    marked_later(store, other.id, {"manifest": a_manifest(other) + b" "})
    catalogue.refresh()

    assert catalogue.get(older.id).mark == "valid"
    assert catalogue.get(older.id).proof == "full"
    assert catalogue.get(other.id).mark == "unsigned"
    assert catalogue.newest_protecting() == catalogue.get(older.id)

    catalogue.add_verdict(
        older.id,
        "mark-20261122T030000Z",
        signed(
            naming.document_key(PREFIX, older.id, "mark-20261122T030000Z"),
            dump_later_mark(older.id, LATER, {name: sha256_of(failed)}),
        ),
    )
    assert catalogue.get(older.id).proof == "none"


@pytest.mark.parametrize(
    ("marks", "expected"), [(Marks((), PREFIX), "unsigned"), (THIEF, "unknown_key")]
)
def test_a_later_mark_that_is_not_ours_vouches_for_nothing(
    store: ObjectStore, catalogue: Catalogue, marks: Marks, expected: Mark
) -> None:
    """A planted later mark makes no set valid."""
    planted = publish(store, unsigned())
    marked_later(store, planted.id, {"manifest": a_manifest(planted)}, marks=marks)
    catalogue.refresh()

    assert catalogue.get(planted.id).mark == expected
    assert catalogue.newest_protecting() is None


def test_a_manifest_with_the_mark_of_a_key_that_is_gone_may_be_marked_later(
    store: ObjectStore, catalogue: Catalogue
) -> None:
    """After a rotation a new mark beside the old manifest counts; a forged one stays wrong."""
    rotated = a_set()
    key = naming.manifest_key(PREFIX, rotated.id)
    document = Marks([OTHER_KEY], PREFIX).sign(key, a_manifest(rotated))
    publish(store, rotated, document)
    marked_later(store, rotated.id, {"manifest": document})
    catalogue.refresh()
    assert catalogue.get(rotated.id).mark == "valid"
    assert catalogue.get(rotated.id).mark_key == MARK_KEY.fingerprint


@pytest.mark.parametrize("marks", [Marks((), PREFIX), THIEF], ids=["unsigned", "unknown key"])
def test_a_planted_verdict_changes_nothing_in_either_direction(
    store: ObjectStore, catalogue: Catalogue, log_lines: LogLines, marks: Marks
) -> None:
    """A planted proof makes no set of ours suspect, a planted acceptance clears none, nothing is
    set aside, and no drill is believed; each is logged once."""
    good = publish(store, a_set())
    suspect = publish(store, a_set(INSTANT - timedelta(days=1), suspect=("few rows",)))

    def plant(set_id: str, kind: str, document: bytes) -> None:
        key = naming.verdict_key(PREFIX, set_id, kind, INSTANT)
        put(store, key, marks.sign(key, document))

    plant(good.id, "proof", dump_verdict(Verdict(good.id, INSTANT, "none", "differs")))
    plant(suspect.id, "accept", dump_acceptance(Acceptance(suspect.id, INSTANT)))
    plant(suspect.id, "proof", dump_verdict(Verdict(suspect.id, INSTANT, "full", "")))
    plant(good.id, "aside", dump_aside(Aside(1, good.id, INSTANT, "a run", suspect.id, True)))
    plant(good.id, "drill", dump_drill(DrillReport(good.id, INSTANT, 1.5, 3, 0, None)))
    catalogue.refresh()
    catalogue.refresh()

    assert catalogue.get(good.id) == good
    assert catalogue.get(suspect.id) == suspect
    assert catalogue.newest_protecting() == good
    assert catalogue.accepted() == frozenset()
    assert catalogue.asides() == {}
    assert catalogue.drill_reports() == []
    assert catalogue.newest_drilled() is None
    assert [one.again for one in catalogue.proofs()] == [False, False]
    assert log_lines.text().count("counts for nothing") == 5


def test_the_verdicts_of_ours_count(store: ObjectStore, catalogue: Catalogue) -> None:
    """The same documents with our mark do what they say."""
    good = publish(store, a_set())
    key = naming.verdict_key(PREFIX, good.id, "proof", INSTANT)
    put(store, key, signed(key, dump_verdict(Verdict(good.id, INSTANT, "none", "differs"))))
    catalogue.refresh()
    assert catalogue.newest_protecting() is None
    assert [one.again for one in catalogue.proofs()] == [True]


def test_marks_are_judged_anew_when_the_keys_change(
    store: ObjectStore, known: Database, catalogue: Catalogue
) -> None:
    """A key that was removed makes its marks those of an unknown key; put back, they are valid."""
    made = publish(store, a_set())
    catalogue.refresh()
    assert catalogue.get(made.id).mark == "valid"

    without = catalogue_of(known, store, marks=Marks([OTHER_KEY], PREFIX))
    assert without.get(made.id).mark == "unknown_key"
    assert without.get(made.id).mark_key == MARK_KEY.fingerprint
    assert without.newest_protecting() is None

    both = catalogue_of(known, store, marks=Marks([OTHER_KEY, MARK_KEY], PREFIX))
    assert both.newest_protecting() == made


def test_a_process_without_keys_uses_the_marks_as_last_noted(
    store: ObjectStore, known: Database, catalogue: Catalogue
) -> None:
    """It rewrites nothing, and says of no known set that it is unsigned; what it learns itself is
    checked by the next process with keys."""
    made = publish(store, a_set())
    catalogue.refresh()
    keyless = catalogue_of(known, store, marks=Marks((), PREFIX))

    def rows() -> list[tuple[object, ...]]:
        with known.reading() as connection:
            tables = [connection.execute(f"SELECT * FROM {one}") for one in ("points", "facts")]
            return [row for table in tables for row in table.fetchall()]

    assert catalogue.newest_protecting() == made
    before = rows()
    assert keyless.newest_protecting() == made
    assert rows() == before

    newer = a_set(INSTANT + timedelta(minutes=30), objects=made.objects)
    put(store, naming.manifest_key(PREFIX, newer.id), a_manifest(newer))
    keyless.refresh()
    assert keyless.get(newer.id).mark == "unknown_key"
    assert keyless.newest_protecting() == made
    assert catalogue.newest_protecting() == newer
    assert keyless.newest_protecting() == newer


def test_the_version_before_opens_the_catalogue(
    store: ObjectStore, known: Database, catalogue: Catalogue
) -> None:
    """What is noted of the marks leaves `user_version`, and the columns of the points, as they
    were; and points that another program noted are noted anew."""
    made = publish(store, a_set())
    catalogue.refresh()
    with known.transaction() as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        columns = [row[1] for row in connection.execute("PRAGMA table_info(points)")]
        connection.execute("UPDATE points SET protects = 0")
        connection.execute("UPDATE facts SET value = '1.1' WHERE name = 'points'")
    assert version == 1
    assert "mark" not in columns
    assert catalogue.newest_protecting() == made


def test_a_manifest_that_was_replaced_is_checked_again(
    store: ObjectStore, catalogue: Catalogue
) -> None:
    """The mark that is noted is that of the manifest that is known now."""
    made = publish(store, a_set())
    catalogue.refresh()
    catalogue.add_manifest(made.id, a_manifest(replace(made, mark="unsigned")))
    assert catalogue.get(made.id).mark == "unsigned"


def accept(catalogue: Catalogue, set_id: str, at: datetime, **lists: Any) -> None:
    """Take an acceptance with our mark in."""
    name = naming.verdict_name("accept", at)
    document = dump_acceptance(Acceptance(set_id, at, **lists))
    key = naming.document_key(PREFIX, set_id, name)
    catalogue.add_verdict(set_id, name, signed(key, document))


def fail(catalogue: Catalogue, set_id: str, at: datetime, manifest: str | None = None) -> str:
    """Take a failed proof with our mark in; its name."""
    name = naming.verdict_name("proof", at)
    verdict = dump_verdict(Verdict(set_id, at, "none", "differs", manifest))
    key = naming.document_key(PREFIX, set_id, name)
    catalogue.add_verdict(set_id, name, signed(key, verdict))
    return name


def test_an_acceptance_clears_what_it_lists_and_nothing_else(
    store: ObjectStore, catalogue: Catalogue
) -> None:
    """Of two reasons the one that it names; and no proof that it does not name, also where that has
    an earlier time."""
    made = publish(store, a_set(suspect=("few rows", "no table")))
    catalogue.refresh()
    accept(catalogue, made.id, INSTANT, reasons=("few rows",), proofs=())
    assert catalogue.get(made.id).suspect == ("no table",)
    accept(catalogue, made.id, INSTANT + timedelta(minutes=2), reasons=("no table",), proofs=())
    assert catalogue.get(made.id).protects

    name = fail(catalogue, made.id, INSTANT + timedelta(minutes=1))
    assert catalogue.get(made.id).suspect is not None
    accept(catalogue, made.id, INSTANT + timedelta(minutes=3), reasons=(), proofs=(name,))
    assert catalogue.get(made.id).suspect is None
    fail(catalogue, made.id, INSTANT + timedelta(minutes=4))
    assert catalogue.get(made.id).suspect is not None


def test_an_acceptance_of_an_earlier_version_clears_what_came_before_it(
    store: ObjectStore, catalogue: Catalogue
) -> None:
    """It lists nothing; marked since, it means what it meant."""
    made = publish(store, a_set(suspect=("few rows",)))
    catalogue.refresh()
    fail(catalogue, made.id, INSTANT)
    accept(catalogue, made.id, INSTANT + timedelta(minutes=1))
    assert catalogue.get(made.id).suspect is None
    fail(catalogue, made.id, INSTANT + timedelta(minutes=2))
    assert catalogue.get(made.id).suspect is not None


def test_a_verdict_on_another_manifest_counts_for_nothing(
    store: ObjectStore, catalogue: Catalogue
) -> None:
    """A proof and an acceptance name the manifest that they are about by its SHA-256."""
    made = publish(store, a_set(suspect=("few rows",)))
    catalogue.refresh()
    accept(catalogue, made.id, INSTANT, manifest="0" * 64, reasons=("few rows",))
    assert catalogue.get(made.id).suspect == ("few rows",)
    fail(catalogue, made.id, INSTANT, manifest="0" * 64)
    assert catalogue.get(made.id).proof == "full"
    fail(catalogue, made.id, LATER, manifest=sha256_of(a_manifest(made)))
    assert catalogue.get(made.id).proof == "none"
