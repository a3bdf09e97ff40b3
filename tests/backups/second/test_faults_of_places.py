"""What one object of a place refuses keeps no other back, and is never taken for a copy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from backups.sets.second.copying import Copying
from shared.errors import ObjectArchived, StoreError, StoreFailing
from shared.store import append_only
from shared.store.append_only import AppendOnlyStore, ObjectVersion
from shared.store.object_store import ObjectStore
from tests.backups.second.host import PREFIX, Host
from tests.support.second import SecondBucket
from tests.support.store_wrappers import WatchedStore

pytestmark = pytest.mark.slow


class Refusing(WatchedStore):
    """A store that does not give out some keys."""

    def __init__(self, inner: ObjectStore, error: type[StoreError], *parts: str) -> None:
        super().__init__(inner)
        self._error = error
        self._parts = parts

    def get(self, key: str, *arguments: Any, **named: Any) -> None:
        """See `ObjectStore.get`."""
        if any(part in key for part in self._parts):
            raise self._error(f"{key} cannot be read", "Wait.")
        super().get(key, *arguments, **named)


def copying(host: Host, first: ObjectStore) -> Copying:
    """One of what `first` shows."""
    return Copying(
        first,
        host.second.store,
        catalogue=host.service.catalogue,
        known=host.service.known,
        marks=host.service.config.marks,
        scratch=host.service.directory.path / "copying",
        place=host.second._place_known,
    )


def test_an_object_that_the_first_does_not_give_out_keeps_no_other_back(
    host: Host, bucket: SecondBucket
) -> None:
    """A bad sector under an old set: newer ones are copied, and the old one waits."""
    broken, good = host.made("one"), host.made("two")
    key = broken.objects[0].key
    found = copying(host, Refusing(host.service.store, StoreFailing, key)).bring()
    assert found.waiting[0].key == key
    assert found.error is not None
    assert found.error.code == "store_failing"
    assert f"{PREFIX}sets/{broken.id}/manifest.json" not in bucket.listed()
    assert f"{PREFIX}sets/{good.id}/manifest.json" in bucket.listed()
    assert copying(host, host.service.store).bring().waiting == []


def test_what_is_archived_keeps_no_newer_set_back(host: Host, bucket: SecondBucket) -> None:
    """However many; another fault of three sets in a row is one of the place."""
    old = [host.made(f"old {number}") for number in range(4)]
    new = host.made("new")
    keys = [one.objects[0].key for one in old]
    with pytest.raises(StoreFailing):
        copying(host, Refusing(host.service.store, StoreFailing, *keys)).bring()
    found = copying(host, Refusing(host.service.store, ObjectArchived, *keys)).bring()
    assert set(keys) <= {one.key for one in found.waiting}
    assert f"{PREFIX}sets/{new.id}/manifest.json" in bucket.listed()


def test_a_document_that_cannot_be_read_now_waits(host: Host, bucket: SecondBucket) -> None:
    """It is neither copied nor forgotten: nobody says that all is there."""
    host.made("one")
    found = copying(host, Refusing(host.service.store, StoreFailing, "/instances/")).bring()
    instances = [one for one in sorted(host.keys()) if one.startswith(f"{PREFIX}instances/")]
    listed = [one for one in instances if "-" in one.rpartition("/")[2]]
    assert {one.key for one in found.waiting} == set(listed)
    assert listed
    assert not set(listed) & set(bucket.listed())


def test_a_set_that_the_listing_lacks_waits(host: Host) -> None:
    """The first place has it, and asked by name gives it out; a listing that lacks it proves
    nothing."""
    made = host.made("one")
    store = WatchedStore(host.service.store)
    manifest = f"{PREFIX}sets/{made.id}/manifest.json"
    store.unlisted = lambda _prefix, key: key in (made.objects[0].key, manifest)
    found = copying(host, store).bring()
    assert (found.waiting, found.refused) == ([], {})
    assert {made.objects[0].key, manifest} <= found.keys
    assert host.second.compare().missing == ()


def test_what_the_doctor_found_meanwhile_is_not_forgotten(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copying may take hours: its end does not overwrite that the key can delete there."""
    host.made("one")
    bring = Copying.bring

    def and_doctor(self: Copying) -> Any:
        host.second.note_deletable(True)
        return bring(self)

    monkeypatch.setattr(Copying, "bring", and_doctor)
    host.second.copy()
    assert "copy_deletable" in {one.code for one in host.service.status().health.amber}


class Endless:
    """A bucket whose listing does not end."""

    location = "endless"
    asked = 0

    def versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """See `VersionedBucket.versions`."""
        while self.asked < 100:
            self.asked += 1
            yield ObjectVersion(f"{prefix}{self.asked}", "1", 1, datetime(2026, 11, 28, tzinfo=UTC))
        raise AssertionError("nobody ended it")


def test_a_listing_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it takes the memory of the app, whose own backups it must not end."""
    monkeypatch.setattr(append_only, "MOST_VERSIONS", 10)
    bucket: Any = Endless()
    with pytest.raises(StoreError, match="more than 10 versions"):
        list(AppendOnlyStore(bucket, lambda _key, _read: None).list("backups/"))
