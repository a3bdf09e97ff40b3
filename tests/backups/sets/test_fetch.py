"""Fetching a set's databases: from a local copy, from the store, and what a failure leaves."""

from __future__ import annotations

import hashlib
import io
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from backups.errors import ProofFailed
from backups.format.legacy import legacy_object
from backups.host.directory import BackupDirectory
from backups.model import BackupSet, Mark, Progress, StoredObject
from backups.sets.fetch import Fetcher
from backups.sources.checking.inspection import read_facts
from tests.support.databases import connect, make_database
from tests.support.records import a_set, a_stored_object
from tests.support.store_wrappers import WatchedStore

KEY = "backups/tokens_2026-11-22.db"


class Place:
    """A set of one database in a store, with a local copy of it, and a fetcher of both."""

    def __init__(self, folder: Path, store: WatchedStore) -> None:
        self.content = make_database(folder / "tokens.db", journal_mode="delete").read_bytes()
        store.put(KEY, io.BytesIO(self.content), {})
        digest = hashlib.sha256(self.content).hexdigest()
        with closing(connect(folder / "tokens.db")) as connection:
            facts = read_facts(connection)
        size = len(self.content)
        self.stored = a_stored_object(
            bytes=size,
            sha256=digest,
            snapshot_bytes=size,
            snapshot_sha256=digest,
            **vars(facts),
        )
        self.set = a_set(objects=(self.stored,))
        directory = BackupDirectory(folder / "backups")
        self.copy = directory.copy_of(self.set.id, "tokens")
        self.copy.parent.mkdir()
        self.copy.write_bytes(self.content)
        self.staging = folder / "staging"
        self.staging.mkdir()
        self.store = store
        self.reports: list[Progress] = []
        self.fetcher = Fetcher(store, directory, None)

    def fetch(
        self, *objects: StoredObject, copies: bool = True, check: bool | None = None
    ) -> dict[str, Path]:
        """Fetch these objects, or else the one of the set."""
        backup_set: BackupSet = self.set
        return self.fetcher.fetch(
            backup_set,
            objects or backup_set.objects,
            self.staging,
            self.reports.append,
            copies=copies,
            check=check,
        )


@pytest.fixture
def place(tmp_path: Path, store: WatchedStore) -> Place:
    return Place(tmp_path, store)


def test_a_local_copy_saves_the_download(place: Place) -> None:
    """A copy that is what the manifest describes is used, stays, and the store is not read."""
    files = place.fetch()

    assert files == {"tokens": place.staging / "tokens.db"}
    assert files["tokens"].read_bytes() == place.content
    assert files["tokens"].stat().st_mode & 0o777 == 0o600
    assert place.copy.read_bytes() == place.content
    assert place.store.keys("get") == []


def test_a_rehearsal_reads_the_store(place: Place) -> None:
    """Without `copies` the bytes come from the store, and the progress says so."""
    files = place.fetch(copies=False)

    assert files["tokens"].read_bytes() == place.content
    assert place.store.keys("get") == [KEY]
    assert {(report.stage, report.source) for report in place.reports} == {("get", "tokens")}


def test_a_copy_that_differs_gives_way_to_the_store(place: Place) -> None:
    """A sound database with the same counts, but other values, is not taken for the set's."""
    with closing(connect(place.copy)) as connection:
        connection.execute("UPDATE tokens SET value = 'tokens-9-' WHERE value = 'tokens-1-'")

    assert place.fetch()["tokens"].read_bytes() == place.content
    assert place.store.keys("get") == [KEY]


def test_a_file_flagged_for_wal_is_fetched_as_one_file(place: Place) -> None:
    """A legacy copy that says it has a `-wal` can be opened where it was put, alone."""
    source = make_database(place.staging.parent / "old.db")
    place.store.delete(KEY)
    place.store.put(KEY, io.BytesIO(source.read_bytes()), {})

    fetched = place.fetch(legacy_object("tokens", KEY, source.stat().st_size))["tokens"]

    with closing(connect(fetched)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert list(place.staging.iterdir()) == [fetched]


def test_a_failed_fetch_leaves_no_download(place: Place) -> None:
    """Bytes that are not those of the manifest are refused by their key, and removed."""
    place.store.delete(KEY)
    place.store.put(KEY, io.BytesIO(place.content[:-1] + b"\xff"), {})

    with pytest.raises(ProofFailed, match=KEY):
        place.fetch(copies=False)

    assert list(place.staging.iterdir()) == []


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize(
    ("mark", "check", "checked"),
    [
        ("valid", None, False),
        ("valid", True, True),
        ("valid", False, False),
        ("unsigned", None, True),
        ("unknown_key", None, True),
        ("unsigned", False, False),
    ],
)
def test_what_a_mark_vouches_for_is_not_checked_once_more(
    place: Place, *, mark: Mark, check: bool | None, checked: bool, copies: bool
) -> None:
    """Its bytes are those that were checked before; of others, that is what their manifest says."""
    facts = replace(place.stored, rows={"tokens": 7})  # which only a check finds out
    place.set = replace(place.set, mark=mark)

    with pytest.raises(ProofFailed, match="manifest records") if checked else nullcontext():
        place.fetch(facts, copies=copies, check=check)


def test_other_bytes_are_refused_whatever_is_checked(place: Place) -> None:
    """The hash is compared always."""
    place.set = replace(place.set, mark="valid")
    other = replace(place.stored, sha256="0" * 64, snapshot_sha256="0" * 64)

    with pytest.raises(ProofFailed, match="uploaded"):
        place.fetch(other, check=False)
