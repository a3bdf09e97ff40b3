"""What somebody with a key of the bucket puts in the place of a set of ours."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.format import naming
from backups.format.document import MOST_BYTES
from backups.sets.catalogue import Catalogue
from shared.databases.sqlite import Database
from shared.store.directory import DirectoryStore
from tests.backups.sets.test_catalogue import days_ago, opened, publish
from tests.backups.sets.test_missing import PREFIX, empty, missing
from tests.support.clock import FixedClock
from tests.support.marks import MARKS
from tests.support.records import INSTANT, a_manifest, a_set
from tests.support.store_wrappers import WatchedStore


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


def replace_manifest(store: WatchedStore, set_id: str, document: bytes) -> None:
    """Put another document in the place of a manifest."""
    key = naming.manifest_key(PREFIX, set_id)
    store.inner.delete(key)
    store.inner.put(key, io.BytesIO(document), {"set-id": set_id})


def unmarked(manifest: bytes) -> bytes:
    """The same manifest without its mark."""
    document = json.loads(manifest)
    del document["mac"]
    return json.dumps(document).encode()


def test_a_planted_set_does_not_end_the_alarm_for_one_that_vanished(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """A manifest without a mark under the id of a set that vanished does not bring it back."""
    made = publish(store, a_set())
    catalogue.refresh()
    empty(store)
    catalogue.refresh()

    publish(store, a_set())
    replace_manifest(store, made.id, unmarked(a_manifest(made)))
    catalogue.refresh()

    assert missing(catalogue) == [(made.id, "vanished")]


def test_a_set_whose_manifest_became_too_large_is_missed(
    store: WatchedStore, catalogue: Catalogue
) -> None:
    """Who overwrites a manifest with a document that nobody reads has taken a restore point."""
    older, made = publish(store, a_set(days_ago(1))), publish(store, a_set())
    catalogue.refresh()

    replace_manifest(store, made.id, bytes(MOST_BYTES + 1))
    catalogue.refresh()

    assert missing(catalogue) == [(made.id, "vanished")]
    assert catalogue.latest() == older


@pytest.mark.parametrize("name", ["aside-20261122T020000Z", "mark-20261122T020000Z"])
def test_a_planted_document_that_was_removed_is_named_no_more(
    store: WatchedStore, catalogue: Catalogue, name: str
) -> None:
    """Who has cleaned up the bucket is rid of the warning, too."""
    made = publish(store, a_set())
    at = "2026-11-22T02:00:00Z"
    members: dict[str, dict[str, object]] = {
        "aside": {"by": "20261122T020000Z-0a1b2c3d", "restored": made.id, "aside": True},
        "mark": {"documents": {}},
    }
    key = naming.document_key(PREFIX, made.id, name)
    document = {"format": 1, "set_id": made.id, "at": at, **members[name.partition("-")[0]]}
    store.inner.put(key, io.BytesIO(json.dumps(document).encode()), {})
    catalogue.refresh()
    assert catalogue.unmarked_verdicts() == [(made.id, name)]

    store.inner.delete(key)
    catalogue.refresh()

    assert catalogue.unmarked_verdicts() == []
