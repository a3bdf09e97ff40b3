"""What is published goes to the second place, byte for byte, and nothing else does."""

from __future__ import annotations

import io
import json
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from backups.errors import RunInterrupted
from backups.operations.second.place import Pace
from backups.sets.second.copying import Copying
from backups.sets.second.wanted import Copied
from backups.wiring import open_service
from shared.errors import DiskFull, StoreUnreachable
from shared.store.append_only import AppendOnlyStore
from shared.store.object_store import get_document
from tests.backups.second.host import PREFIX, Host
from tests.support.installation import installation_in, settings_of
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket

pytestmark = pytest.mark.slow


def first_bytes(host: Host, key: str) -> bytes:
    """What lies in the first place."""
    found = io.BytesIO()
    host.service.store.get(key, found)
    return found.getvalue()


def test_all_that_is_published_is_copied_as_it_is(host: Host, bucket: SecondBucket) -> None:
    """The data, the manifest, and what was said of the set later; then there is nothing to do."""
    made = host.made("one")
    state, copied = host.second.copy()
    keys = {one.key for one in made.objects} | {f"{PREFIX}sets/{made.id}/manifest.json"}
    assert keys <= set(bucket.listed())
    assert state.waiting == 0
    assert state.newest == made.id
    for key in bucket.listed():
        assert bucket.bytes_of(key) == first_bytes(host, key), key
    host.service.pins.pin(made.id, "audit")
    _, later = host.second.copy()
    assert (copied.copied >= 3, later.copied) == (True, 1)
    assert any("/pin" in key for key in bucket.listed())
    assert host.second.copy()[1] == Copied(keys=later.keys)
    assert host.second.compare().missing == ()


def test_each_copy_is_locked(host: Host, bucket: SecondBucket) -> None:
    """For COPY_LOCK_DAYS no key can delete it."""
    host.made("one")
    host.second.copy()
    for one in bucket.versions():
        found = bucket.client.get_object_retention(
            Bucket=bucket.name, Key=one["Key"], VersionId=one["VersionId"]
        )["Retention"]
        left = found["RetainUntilDate"] - one["LastModified"]
        assert timedelta(hours=23) < left < timedelta(hours=25)


def test_what_a_thief_puts_into_the_first_place_is_not_copied(
    host: Host, bucket: SecondBucket
) -> None:
    """Nothing without a mark of ours fills the second place, from which nothing is deleted."""
    made = host.made("one")
    manifest = first_bytes(host, f"{PREFIX}sets/{made.id}/manifest.json")
    planted = {
        f"{PREFIX}sets/20990101T000000Z/manifest.json": manifest,
        f"{PREFIX}tokens_2020-01-01.db": b"planted",
        f"{PREFIX}sets/{made.id}/proof-20990101T000000Z.json": b'{"planted": true}',
        f"{PREFIX}chains/{made.id}-{'a' * 32}/head.json": b"{}",
        f"{PREFIX}chains/{made.id}-{'a' * 32}/i/0000000001.inc": b"{}\n",
        f"{PREFIX}chains/{made.id}-{'a' * 32}/p/0000000001-0000000002.pack": b"{}\n",
        f"{PREFIX}chains/{made.id}-{'a' * 32}/d/0000000001.inc": b"{}\n",
        f"{PREFIX}instances/{'a' * 32}-20990101T000000Z.json": b"{}",
        f"{PREFIX}other": b"other",
    }
    for key, body in planted.items():
        host.service.store.put(key, io.BytesIO(body), {})
    host.second.copy()
    assert not planted.keys() & set(bucket.listed())
    assert f"{PREFIX}sets/{made.id}/manifest.json" in bucket.listed()


def test_what_was_changed_in_the_first_place_does_not_follow(
    host: Host, bucket: SecondBucket
) -> None:
    """A set whose data is not what its manifest says stays behind, by name; others are copied."""
    broken, good = host.made("one"), host.made("two")
    key = broken.objects[0].key
    body = first_bytes(host, key)
    host.service.store.delete(key)
    host.service.store.put(key, io.BytesIO(body[:-1] + bytes([body[-1] ^ 1])), {})
    state, copied = host.second.copy()
    assert list(copied.refused) == [key]
    assert key not in bucket.listed()
    assert f"{PREFIX}sets/{broken.id}/manifest.json" not in bucket.listed()
    assert f"{PREFIX}sets/{good.id}/manifest.json" in bucket.listed()
    assert (state.refused, state.complete_at) == (1, None)
    assert "copy_refused" in {one.code for one in host.service.status().health.warnings}


def test_a_deleted_set_is_none_in_the_second_place_either(host: Host, bucket: SecondBucket) -> None:
    """Its note follows: the bytes stay there, where nothing is deleted, and count no more. A set
    that was deleted before it was copied never goes there."""
    never, gone = host.made("one"), host.made("two")
    host.second.copy()
    only_here = host.made("three")
    newest = host.made("four")
    for one in (gone, only_here):
        run = host.service.delete.begin(one.id).execute()
        assert run.status == "succeeded", run.error
    state, _ = host.second.copy()
    assert (state.refused, state.waiting) == (0, 0)
    assert f"{PREFIX}sets/{gone.id}/manifest.json" in bucket.listed()
    assert f"{PREFIX}sets/{only_here.id}/manifest.json" not in bucket.listed()
    assert any(f"/{gone.id}/deleted-" in key for key in bucket.listed())
    found = {one.id for one in host.second.catalogue.sets()}
    assert found == {never.id, newest.id}
    assert host.second.catalogue.lost_points() == ()
    assert host.second.copy()[1].copied == 0
    assert host.second.compare().missing == ()


class FailingSecond(AppendOnlyStore):
    """A second place that is away after so many puts."""

    left = 0

    def put(self, *arguments: object, **named: object) -> None:
        """Put, or fail."""
        if self.left == 0:
            raise StoreUnreachable("no connection", "Wait.")
        self.left -= 1
        super().put(*arguments, **named)  # type: ignore[arg-type]


def test_a_copying_that_is_cut_off_at_any_put_is_finished_by_the_next(
    host: Host, bucket: SecondBucket
) -> None:
    """A manifest is never there without its data; in the end all is there once."""
    made = [host.made("one"), host.made("two")]
    store = host.second.store
    failing = FailingSecond(store.bucket, store._is_right)
    copying = Copying(
        host.service.store,
        failing,
        catalogue=host.service.catalogue,
        known=host.service.known,
        marks=host.service.config.marks,
        scratch=host.service.directory.path / "copying",
        place=host.second._place_known,
    )
    cut_off = 0
    while True:
        failing.left = 1
        try:
            copying.bring()
            break
        except StoreUnreachable:
            cut_off += 1
        keys = set(bucket.listed())
        for one in made:
            if f"{PREFIX}sets/{one.id}/manifest.json" in keys:
                assert {stored.key for stored in one.objects} <= keys
    assert cut_off >= 5
    assert host.second.compare().missing == ()
    assert len(bucket.versions()) == len(bucket.listed())


def test_what_is_in_the_way_is_covered_where_it_stays_beneath(
    host: Host, bucket: SecondBucket
) -> None:
    """A thief who plants tomorrow's keys keeps no copy out: the right version counts."""
    made = host.made("one")
    for key in [one.key for one in made.objects] + [f"{PREFIX}sets/{made.id}/manifest.json"]:
        bucket.plant(key, b"planted before")
    host.second.copy()
    assert host.second.compare().different == ()
    second = host.open_second()
    second.catalogue.refresh()
    assert second.catalogue.get(made.id).proof == "full"
    assert second.verify.begin(made.id).execute().error is None
    assert "copy_disturbed" in {one.code for one in host.service.status().health.amber}


def test_without_versions_what_is_in_the_way_is_named(tmp_path: Path, s3_server: S3Server) -> None:
    """Nothing can be put beside it there, and it is not taken for a copy."""
    bucket = SecondBucket.new(s3_server, locks=False, versions=False)
    installation = installation_in(tmp_path, **bucket.environment())
    with open_service(settings_of(installation)) as service:
        host = Host(installation, service, lambda: service)
        made = host.made("one")
        key = made.objects[0].key
        bucket.plant(key, b"planted before")
        state, copied = host.second.copy()
        assert list(copied.refused) == [key]
        assert state.waiting > 0
        assert bucket.bytes_of(key) == b"planted before"


def test_no_lock_where_one_is_asked_for_is_named(tmp_path: Path, s3_server: S3Server) -> None:
    """The copying fails with the remedy, and says nothing else."""
    bucket = SecondBucket.new(s3_server, locks=False)
    installation = installation_in(tmp_path, **bucket.environment(COPY_LOCK_DAYS="30"))
    with open_service(settings_of(installation)) as service:
        Host(installation, service, lambda: service).made("one")
    done = installation.cli("copy")
    assert done.returncode == 1
    assert "cannot lock objects, and COPY_LOCK_DAYS asks for it" in done.stderr
    assert "docs/two-places.md" in done.stderr
    assert bucket.versions() == []
    status = installation.json("status")
    assert "store_cannot_lock" in str([one["message"] for one in status["warnings"]])


def test_a_listing_is_no_proof_of_a_copy(host: Host, bucket: SecondBucket) -> None:
    """Who plants bytes of the right number under tomorrow's key keeps no copy out."""
    made = host.made("one")
    for one in made.objects:
        bucket.plant(one.key, bytes(one.bytes), sha256=one.sha256)
    _, copied = host.second.copy()
    assert copied.refused == {}
    second = host.open_second()
    second.catalogue.refresh()
    assert second.verify.begin(made.id).execute().error is None


def test_what_was_deleted_there_is_copied_again(tmp_path: Path, s3_server: S3Server) -> None:
    """Where nothing locks it, and nothing keeps a version."""
    bucket = SecondBucket.new(s3_server, locks=False, versions=False)
    installation = installation_in(tmp_path, **bucket.environment())
    with open_service(settings_of(installation)) as service:
        host = Host(installation, service, lambda: service)
        made = host.made("one")
        host.second.copy()
        bucket.hide(made.objects[0].key)
        assert host.second.copy()[1].copied == 1
        assert host.second.compare().missing == ()


def test_without_room_for_an_object_nothing_is_fetched(
    host: Host, bucket: SecondBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the databases is not filled: the copying ends with the remedy, and status says
    it; the next one goes on."""
    host.made("one")
    with monkeypatch.context() as patch:
        patch.setattr("backups.sets.second.copying.free_bytes", lambda _: 0)
        with pytest.raises(DiskFull, match="no room to copy"):
            host.second.copy()
    state = host.second.state()
    assert state is not None
    assert state.error is not None
    assert state.error.code == "disk_full"
    assert "copy_failed" in {one.code for one in host.service.status().health.warnings}
    assert bucket.versions() == []
    host.second.copy()
    assert host.second.compare().missing == ()


def test_the_pace_is_kept() -> None:
    """So many Mbit/s, by waiting between two pieces; a stop ends it at once."""
    stopping = threading.Event()
    pace, began = Pace(8, stopping), time.monotonic()
    for _ in range(5):
        pace(100_000)  # a tenth of a second of 8 Mbit/s
    assert time.monotonic() - began >= 0.4
    stopping.set()
    with pytest.raises(RunInterrupted):
        pace(0)


def test_a_set_without_a_mark_is_not_copied(host: Host, bucket: SecondBucket) -> None:
    """Whole as it is: who puts it there has the key of the first bucket, and of no other."""
    made = host.made("one")
    document = json.loads(first_bytes(host, f"{PREFIX}sets/{made.id}/manifest.json"))
    del document["mac"]
    planted = "20261120T010000Z"
    document["id"], document["instant"] = planted, "2026-11-20T01:00:00.000Z"
    for one in document["objects"]:
        body = first_bytes(host, one["key"])
        one["key"] = f"{PREFIX}{one['source']}_2026-11-20T010000Z.db"
        host.service.store.put(one["key"], io.BytesIO(body), {})
    key = f"{PREFIX}sets/{planted}/manifest.json"
    host.service.store.put(key, io.BytesIO(json.dumps(document).encode()), {})
    host.service.catalogue.refresh()
    assert host.service.catalogue.get(planted).mark == "unsigned"
    host.second.copy()
    assert [one for one in bucket.listed() if "2026-11-20" in one or planted in one] == []


def test_of_two_versions_that_are_right_the_oldest_counts(host: Host, bucket: SecondBucket) -> None:
    """Who has the token keys, too, can mark another manifest; what was there before stays it."""
    made = host.made("one")
    host.second.copy()
    key = f"{PREFIX}sets/{made.id}/manifest.json"
    first = bucket.bytes_of(key)
    document = json.loads(first)
    document["suspect"] = ["planted later"]
    time.sleep(1.1)  # the store's times are whole seconds
    bucket.plant(key, host.service.config.marks.sign(key, json.dumps(document).encode()))
    assert bucket.bytes_of(key) != first
    assert get_document(host.open_second().store, key, 100_000) == first
