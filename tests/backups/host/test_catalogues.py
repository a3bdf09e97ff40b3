"""Tests of `backups.host.catalogues`: what is known of one store says nothing of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backups.format import naming
from backups.host import catalogues
from backups.host.catalogues import catalogue_path, identity_of, open_catalogue
from backups.host.records import MIGRATIONS, open_records
from backups.sets.catalogue import Catalogue
from shared.databases.sqlite import Database
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from shared.store.spaces import SpacesStore
from shared.store.spaces_access import SpacesSettings
from tests.support.clock import FixedClock
from tests.support.marks import MARKS
from tests.support.records import INSTANT, a_manifest, a_set

PREFIX = "backups/"


def spaces(bucket: str, endpoint: str) -> SpacesStore:
    """A bucket; nothing is asked of it."""
    return SpacesStore(
        SpacesSettings(
            api_key="key", api_secret="secret", region="nyc3", bucket=bucket, endpoint=endpoint
        )
    )


@contextmanager
def known_of(host: Path, store: ObjectStore, prefix: str = PREFIX) -> Iterator[Catalogue]:
    """The catalogue of a store on this host."""
    with (
        closing(open_records(host)) as records,
        closing(open_catalogue(host, store, prefix, records)) as known,
    ):
        yield Catalogue(known, store, prefix, FixedClock(INSTANT), marks=MARKS)


def test_each_store_has_an_identity_of_its_own(tmp_path: Path) -> None:
    """Kind, endpoint, bucket, folder and prefix make a store; the credentials do not."""
    endpoint = "https://nyc3.example"
    identities = {
        identity_of(store, prefix)
        for store in (
            DirectoryStore(tmp_path / "one"),
            DirectoryStore(tmp_path / "two"),
            spaces("one", endpoint),
            spaces("two", endpoint),
            spaces("one", "https://ams3.example"),
        )
        for prefix in ("backups/", "other/")
    }
    assert len(identities) == 10
    assert not any("secret" in identity for identity in identities)
    assert len({catalogue_path(tmp_path, identity) for identity in identities}) == 10


def test_one_folder_is_one_store_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path, one with dots and a link mean the objects that they lead to."""
    folder = tmp_path / "data" / "spaces"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    names = (folder, Path("data/spaces"), tmp_path / "link" / "spaces", folder / ".." / "spaces")

    assert len({identity_of(DirectoryStore(name), PREFIX) for name in names}) == 1


def test_what_one_store_has_counts_for_no_other(tmp_path: Path) -> None:
    """After a change of the store nothing is known; after changing back all is known again."""
    old, new = DirectoryStore(tmp_path / "old"), DirectoryStore(tmp_path / "new")
    made = a_set()
    with known_of(tmp_path / "host", old) as catalogue:
        catalogue.add_manifest(made.id, a_manifest(made))
        catalogue.note_contact()
    for other, prefix in ((new, PREFIX), (old, "elsewhere/")):
        with known_of(tmp_path / "host", other, prefix) as catalogue:
            assert catalogue.latest() is None
            assert catalogue.count() == 0
            assert catalogue.last_contact_at() is None
    with known_of(tmp_path / "host", old) as catalogue:
        assert catalogue.latest() == made
        assert catalogue.last_contact_at() == INSTANT


def earlier_records(host: Path, prefix: str = PREFIX) -> str:
    """Records of an earlier version, with one set, one group and a pending delete; its id."""
    made = a_set()
    with closing(Database(host / "runs.db", MIGRATIONS)) as records, records.transaction() as rows:
        rows.execute("INSERT INTO sets VALUES (?, ?)", (made.id, a_manifest(made)))
        rows.execute("INSERT INTO doomed VALUES ('backups/tokens_2026-01-01.db', 'gone')")
        rows.execute(
            "INSERT INTO dated_objects(key, bytes, modified_at, legacy, day)"
            " VALUES ('backups/tokens_2025-07-04.db', 1, '2025-07-04T01:00:00Z', 1, '2025-07-04')"
        )
        rows.execute("INSERT INTO facts VALUES ('points', ?)", (f"1 {prefix}",))
    return made.id


def test_the_first_start_takes_over_what_an_earlier_version_knew(tmp_path: Path) -> None:
    """Right after an upgrade, without the network, the same points are listed; none was seen."""
    host, store = tmp_path / "host", DirectoryStore(tmp_path / "store")
    made = earlier_records(host)

    with known_of(host, store) as catalogue:
        assert [one.id for one in catalogue.sets()] == [made, "legacy-2025-07-04"]
        assert catalogue.latest() == a_set()
        assert catalogue.seen_at(made) is None
    path = catalogue_path(host, identity_of(store, PREFIX))
    with closing(Database(path, catalogues.MIGRATIONS)) as known, known.reading() as rows:
        assert rows.execute("SELECT key, set_id FROM doomed").fetchall() == [
            ("backups/tokens_2026-01-01.db", "gone")
        ]


def test_it_is_taken_over_once(tmp_path: Path) -> None:
    """What the earlier version knew goes to the first store alone, and never comes back."""
    host, store = tmp_path / "host", DirectoryStore(tmp_path / "store")
    made = earlier_records(host)
    with known_of(host, store) as catalogue:
        catalogue.forget(made)

    with known_of(host, DirectoryStore(tmp_path / "other")) as catalogue:
        assert catalogue.count() == 0
    catalogue_path(host, identity_of(store, PREFIX)).unlink()
    with known_of(host, store) as catalogue:
        assert catalogue.count() == 0


def test_a_command_with_another_prefix_does_not_take_it_over(tmp_path: Path) -> None:
    """The rows belong to the prefix for which the earlier version has read them."""
    host, store = tmp_path / "host", DirectoryStore(tmp_path / "store")
    made = earlier_records(host)

    with known_of(host, store, "elsewhere/") as catalogue:
        assert catalogue.count() == 0
    with known_of(host, store) as catalogue:
        assert catalogue.get(made) == a_set()


def test_the_version_before_goes_on_reading_its_records(tmp_path: Path) -> None:
    """Its tables and its schema version stay as they were, whatever is learnt since."""
    host, store = tmp_path / "host", DirectoryStore(tmp_path / "store")
    made = earlier_records(host)
    with known_of(host, store) as catalogue:
        catalogue.forget(made)
        later = a_set(INSTANT - timedelta(days=1))
        catalogue.add_manifest(later.id, a_manifest(later))

    with closing(Database(host / "runs.db", MIGRATIONS)) as records, records.reading() as rows:
        assert rows.execute("SELECT id FROM sets").fetchall() == [(made,)]
        assert rows.execute("PRAGMA user_version").fetchone() == (3,)
        assert rows.execute("SELECT count(*) FROM doomed").fetchone() == (1,)
    assert naming.is_set_id(made)
