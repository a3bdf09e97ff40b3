"""The documents under `users/` go to the second place: each as it is, and nothing is lost there."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from backups.errors import RunInterrupted
from backups.operations.second import documents as second_documents
from backups.vocabulary.second import DocumentsState
from backups.wiring import build_second_bucket, open_service
from shared.errors import StoreAccessDenied, StoreUnreachable
from shared.merchants.history.copies import Lacking, conversations_there, lacking
from shared.merchants.history.keys import MOST_LOCKED, AccountFolder, copied_folder
from shared.store.object_store import ObjectInfo
from tests.backups.second.host import Host
from tests.support.installation import installation_in, settings_of
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

PAGE = "users/u-1/facebook/7001/"
SHOP = "users/u-2/shopify/kaese.myshopify.com/"
TALK = f"{PAGE}conversations/9.json"
METADATA = f"{PAGE}page_metadata.json"
PRODUCTS = f"{SHOP}shop_products.json"
VERSION = f"{PAGE}versions/20261128/conversations/9.json"


def put(host: Host, **documents: str) -> None:
    """Store these documents, by the names of the constants above."""
    store: Any = host.service.store
    for name, text in documents.items():
        store.replace(globals()[name], text.encode())


def copied(host: Host, seconds: float | None = None) -> DocumentsState:
    """Copy, and what came of it."""
    host.second.copy_documents(seconds)
    state = host.second.documents_state()
    assert state is not None
    return state


def owned(host: Host, *folders: str) -> None:
    """These accounts have their user; of the others all was to be deleted."""
    documents = host.second.documents
    assert documents is not None
    documents.fate_of = lambda folder, _: "kept" if folder in folders else "forgotten"


def brought_back(host: Host, before: datetime | None = None) -> list[Lacking]:
    """Which conversations would come back."""
    second = host.second.store.bucket
    return list(lacking(host.service.store, second, conversations_there(second, before)))


def versions(bucket: SecondBucket, key: str) -> list[bytes]:
    """What the bucket has of a document, the newest first."""
    found = [one for one in bucket.versions() if one["Key"] == key]
    return [
        bucket.client.get_object(Bucket=bucket.name, Key=key, VersionId=one["VersionId"])[
            "Body"
        ].read()
        for one in found
    ]


def test_each_document_goes_as_it_is(host: Host, bucket: SecondBucket) -> None:
    """But for the versions that the bot keeps; what has not changed goes once."""
    put(host, TALK="[1]", METADATA="{}", PRODUCTS='{"products":[]}', VERSION="[0]")
    first = copied(host)
    put(host, TALK="[1,2]")
    second = copied(host)

    assert (first.documents, first.waiting, second.documents) == (3, 0, 3)
    assert second.complete_at == second.at
    assert versions(bucket, TALK) == [b"[1,2]", b"[1]"]
    assert versions(bucket, METADATA) == [b"{}"]
    assert VERSION not in bucket.listed()


def test_no_document_is_locked_for_more_than_thirty_days(
    tmp_path: Path, bucket: SecondBucket
) -> None:
    """Whose deletion is asked for must be gone some day; sets are locked for as long as is set."""
    bucket.client.put_object_lock_configuration(
        Bucket=bucket.name,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 90}},
        },
    )
    for number, more in enumerate(({"COPY_LOCK_DAYS": "60"}, {})):
        installation = installation_in(tmp_path / f"{number}", **bucket.environment(**more))
        with open_service(settings_of(installation)) as service:
            host = Host(installation, service, lambda: service)
            put(host, TALK=f"[{number}]")
            assert copied(host).documents == 1
        until = bucket.client.get_object_retention(Bucket=bucket.name, Key=TALK)["Retention"]
        days = (until["RetainUntilDate"] - datetime.now(UTC)) / timedelta(days=1)
        assert 29 < days <= 30.1, more


@pytest.mark.parametrize("code", ["AccessDenied", "SlowDown"])
def test_a_lock_that_nobody_tells_is_not_taken_for_none(
    host: Host, bucket: SecondBucket, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A document could be locked for years: it waits, and the error is named."""
    documents = host.second.documents
    assert documents is not None
    settings = replace(settings_of(host.installation).copy, lock_days=0)  # type: ignore[type-var]
    opened: Any = build_second_bucket(
        replace(settings_of(host.installation), copy=settings), most_locked=MOST_LOCKED
    )

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code}}, "GetObjectLockConfiguration")

    monkeypatch.setattr(documents, "_opened", opened)
    monkeypatch.setattr(opened._client, "get_object_lock_configuration", refuse)
    put(host, TALK="[1]")
    state = copied(host)
    assert (state.documents, state.error is not None) == (0, True)
    assert TALK not in bucket.listed()


def test_a_change_of_the_same_size_and_time_is_a_change(
    tmp_path: Path, bucket: SecondBucket, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store in S3 tells whole seconds; the tag of an object says that its bytes are others."""
    first = s3_server.settings_of_new_bucket()
    installation = installation_in(tmp_path, **bucket.beside(first, COPY_LOCK_DAYS="1"))
    with open_service(settings_of(installation)) as service:
        host = Host(installation, service, lambda: service)
        store, at = service.store, datetime.now(UTC)
        listing = store.list

        def at_one_time(prefix: str) -> Iterator[ObjectInfo]:
            yield from (replace(one, modified_at=at) for one in listing(prefix))

        monkeypatch.setattr(store, "list", at_one_time)
        for number in range(3):
            put(host, TALK=f"[{number}]")
            copied(host)
        monkeypatch.delattr(type(store), "get")  # what has not changed is not read again
        assert copied(host).documents == 1
    assert versions(bucket, TALK) == [b"[2]", b"[1]", b"[0]"]


def test_a_listing_is_no_proof_of_a_copy(host: Host, bucket: SecondBucket) -> None:
    """What a thief puts over a document, or hides, is covered again, and stays beneath."""
    put(host, TALK="[1]", METADATA="{}")
    copied(host)
    bucket.plant(TALK, b"[0]")
    bucket.hide(METADATA)
    state = copied(host)

    assert (state.documents, state.waiting) == (2, 0)
    assert versions(bucket, TALK) == [b"[1]", b"[0]", b"[1]"]
    assert bucket.bytes_of(METADATA) == b"{}"


def test_a_new_host_believes_what_it_has_compared(
    tmp_path: Path, host: Host, bucket: SecondBucket
) -> None:
    """It puts nothing that is there already, byte for byte."""
    put(host, TALK="[1]")
    copied(host)
    installation = installation_in(tmp_path / "new", **bucket.environment(COPY_LOCK_DAYS="1"))
    with open_service(settings_of(installation)) as service:
        other = Host(installation, service, lambda: service)
        put(other, TALK="[1]")
        assert copied(other).documents == 1
    assert versions(bucket, TALK) == [b"[1]"]


def test_an_account_that_is_over_ends_there_too(host: Host, bucket: SecondBucket) -> None:
    """A version without bytes covers each of its documents: nothing of them comes back."""
    put(host, TALK="[1]", METADATA="{}", PRODUCTS="{}")
    copied(host)
    for key in (TALK, METADATA):
        host.service.store.delete(key)
    owned(host, SHOP)
    state = copied(host)

    assert (state.documents, state.gone) == (1, 0)
    assert [versions(bucket, key) for key in (TALK, METADATA)] == [[b"", b"[1]"], [b"", b"{}"]]
    assert brought_back(host) == []
    # Once, and not with each copying.
    copied(host)
    assert len(versions(bucket, TALK)) == 2


def test_what_is_gone_without_a_request_is_named(host: Host, bucket: SecondBucket) -> None:
    """A conversation of an account that goes on; of all else the platform tells again."""
    host.made("one")
    host.second.copy()
    put(host, TALK="[1]", METADATA="{}", PRODUCTS="{}")
    copied(host)
    for key in (TALK, PRODUCTS):
        host.service.store.delete(key)
    owned(host, PAGE, SHOP)
    state = copied(host)

    assert state.gone == 1
    assert versions(bucket, TALK) == [b"[1]"]
    found = {one.code: one for one in host.service.status().health.warnings}
    assert found["documents_gone"].message.startswith("1 conversation")
    (one,) = brought_back(host)
    assert (one.version.document, one.missing) == (TALK, True)
    assert host.second.documents is not None
    host.second.documents.fate_of = None  # as in a command, which does not know who is over
    assert copied(host).gone == 1
    owned(host, PAGE, SHOP)
    put(host, TALK="[1]")
    assert copied(host).gone == 0
    assert brought_back(host) == []  # the same bytes, by another tag
    put(host, TALK="[2]")
    (one,) = brought_back(host)
    assert not one.missing


def test_an_account_without_a_user_ends_only_on_request(host: Host, bucket: SecondBucket) -> None:
    """The bucket was emptied, and `tokens.db` is a new one: that is no deletion."""
    put(host, TALK="[1]", PRODUCTS="{}")
    copied(host)
    for key in (TALK, PRODUCTS):
        host.service.store.delete(key)
    assert host.second.documents is not None
    host.second.documents.fate_of = lambda _folder, _at: "unknown"
    copied(host)
    assert versions(bucket, TALK) == [b"[1]"]

    owned(host, PAGE, SHOP)  # `tokens.db` was restored
    assert copied(host).gone == 1


def test_the_last_account_can_be_forgotten(host: Host, bucket: SecondBucket) -> None:
    """Where there is nothing any more, what was to be deleted is no loss; no key of it is kept."""
    put(host, TALK="[1]")
    copied(host)
    host.service.store.delete(TALK)
    owned(host)

    assert copied(host).gone == 0
    assert versions(bucket, TALK) == [b"", b"[1]"]
    with host.second._place_known.reading() as connection:
        assert connection.execute("SELECT count(*) FROM copied_documents").fetchone() == (0,)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_thief_cannot_hide_a_loss(host: Host, bucket: SecondBucket, hidden: bool) -> None:
    """With the keys of both places: what this host has copied is gone, whatever is shown there."""
    put(host, TALK="[1]", METADATA="{}")
    copied(host)
    owned(host, PAGE)
    host.service.store.delete(TALK)
    if hidden:
        bucket.hide(TALK)
    else:
        bucket.plant(TALK, b"")

    assert copied(host).gone == 1


def test_lasting_refusals_keep_nothing_back(
    host: Host, bucket: SecondBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many come one after the other, and what was to be deleted ends all the same."""
    store: Any = host.service.store
    for number in range(6):
        store.replace(f"{PAGE}a{number}.json", b"{}")
    put(host, PRODUCTS="{}", TALK="[1]")
    copied(host)
    for number in range(6):
        store.replace(f"{PAGE}a{number}.json", b"[]")
    put(host, TALK="[1,2]")
    store.delete(PRODUCTS)
    owned(host, PAGE)
    get = store.get

    def refuse(key: str, *arguments: Any, **more: Any) -> None:
        if key.startswith(f"{PAGE}a"):
            raise StoreAccessDenied("no", "Wait.")
        get(key, *arguments, **more)

    monkeypatch.setattr(store, "get", refuse)
    state = copied(host)
    assert (state.waiting, state.error is not None) == (6, True)
    assert bucket.bytes_of(TALK) == b"[1,2]"
    assert bucket.bytes_of(PRODUCTS) == b""


def test_without_versions_nothing_goes(tmp_path: Path, s3_server: S3Server) -> None:
    """One that is overwritten would be gone; status and the command say so."""
    bucket = SecondBucket.new(s3_server, locks=False, versions=False)
    installation = installation_in(tmp_path, **bucket.environment())
    with open_service(settings_of(installation)) as service:
        host = Host(installation, service, lambda: service)
        put(host, TALK="[1]")
        state = copied(host)
        assert (state.versioned, state.documents) == (False, 0)
        assert TALK not in bucket.listed()
    done = installation.cli("copy")
    assert done.returncode == 0, done.stderr
    assert "the bucket keeps no versions" in done.stdout
    status = installation.cli("status")
    assert "no users/ (the bucket keeps no versions)" in status.stdout


def test_what_does_not_go_keeps_nothing_back(
    host: Host, bucket: SecondBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is too large, and one that other bytes come back of: the rest goes, both wait."""
    put(host, TALK="[1]", METADATA="{}", PRODUCTS='{"products": [1, 2]}')
    covered = host.second.store.bucket.cover
    documents = host.second.documents
    assert documents is not None
    small = replace(documents._config, most_bytes=10)
    monkeypatch.setattr(documents, "_config", small)

    def cover(key: str, body: Any, metadata: Any) -> None:
        covered(key, io.BytesIO(b"lost") if key == METADATA else body, metadata)

    monkeypatch.setattr(documents._second, "cover", cover)
    state = copied(host)

    assert (state.documents, state.waiting, state.too_large) == (1, 2, 1)
    assert state.error is not None
    assert bucket.bytes_of(TALK) == b"[1]"
    assert state.complete_at is None
    monkeypatch.undo()
    assert copied(host).waiting == 0


def test_a_place_that_is_away_is_caught_up_with(
    host: Host, bucket: SecondBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended the copying is noted, and when it last was complete."""
    put(host, TALK="[1]")
    complete = copied(host).complete_at
    documents = host.second.documents
    assert documents is not None

    def away(*_: object) -> None:
        raise StoreUnreachable("it is away", "Wait.")

    with monkeypatch.context() as patched:
        patched.setattr(documents._second, "cover", away)
        put(host, TALK="[1,2]")
        state = copied(host)
    assert state.error is not None
    assert (state.error.code, state.complete_at) == ("store_unreachable", complete)
    assert state.behind_since is not None
    state = copied(host)
    assert (state.error, state.documents, bucket.bytes_of(TALK)) == (None, 1, b"[1,2]")


def test_a_copying_ends_with_its_time_and_goes_on(host: Host) -> None:
    """So that a new set does not wait for all documents."""
    put(host, TALK="[1]", METADATA="{}", PRODUCTS="{}")
    assert copied(host, seconds=-1).waiting == 3
    assert copied(host).waiting == 0


def test_a_long_listing_takes_nothing_of_that_time(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a large bucket would be listed for ever, and nothing copied."""
    put(host, TALK="[1]", METADATA="{}", PRODUCTS="{}")
    now, listing = [0.0], host.service.store.list

    def slow(prefix: str) -> Iterator[ObjectInfo]:
        now[0] += 3600
        return iter(listing(prefix))

    monkeypatch.setattr(second_documents, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(host.service.store, "list", slow)
    assert copied(host, seconds=60).waiting == 0


@pytest.mark.parametrize("steps", range(1, 9))
def test_a_copying_that_is_cut_short_anywhere_goes_on(
    host: Host, bucket: SecondBucket, steps: int
) -> None:
    """As a kill would: after it, each document is there as it is, and each end."""
    put(host, TALK="[1]", METADATA="{}", PRODUCTS="{}")
    owned(host, PAGE)
    copied(host)
    host.service.store.delete(PRODUCTS)
    put(host, TALK="[1,2]", METADATA='{"name":1}')
    documents = host.second.documents
    assert documents is not None
    with suppress(RunInterrupted):
        documents.copy(interrupted_after(steps))

    state = copied(host)
    assert (state.documents, state.waiting, state.gone) == (2, 0, 0)
    assert bucket.bytes_of(TALK) == b"[1,2]"
    assert bucket.bytes_of(METADATA) == b'{"name":1}'
    assert bucket.bytes_of(PRODUCTS) == b""


def interrupted_after(steps: int) -> Callable[[int], None]:
    """Raises at the call with this number."""
    left = [steps]

    def go_on(_: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise RunInterrupted

    return go_on


def test_a_comparison_reads_both(host: Host, bucket: SecondBucket) -> None:
    """What changed since, and what lies there with other bytes."""
    put(host, TALK="[1]", METADATA="{}", PRODUCTS="{}")
    copied(host)
    assert host.second.compare_documents().compared == 3
    put(host, PRODUCTS='{"a":1}')
    bucket.plant(TALK, b"[3]")
    found = host.second.compare_documents()
    assert (found.missing, found.different) == ((PRODUCTS,), (TALK,))


def test_what_the_second_place_had_at_a_time(host: Host, bucket: SecondBucket) -> None:
    """No marks: only the time at which it received them says what a thief has put there."""
    put(host, TALK="[1]")
    copied(host)
    (received,) = [one["LastModified"] for one in bucket.versions() if one["Key"] == TALK]
    moment = received + timedelta(seconds=1)
    eventually(lambda: datetime.now(UTC) > moment + timedelta(seconds=1), "a later second")
    bucket.plant(TALK, b"[666]")
    host.service.store.delete(TALK)
    (now,) = brought_back(host)
    (then,) = brought_back(host, moment)
    assert (now.stored.size, then.stored.size) == (5, 3)
    assert brought_back(host, received - timedelta(hours=1)) == []


@pytest.mark.parametrize(
    ("key", "folder"),
    [
        (TALK, PAGE),
        (PRODUCTS, SHOP),
        (VERSION, None),
        (PAGE, None),
        ("users/u-1/notes.json", None),
        ("backups/users/u-1/facebook/7001/x.json", None),
    ],
)
def test_which_documents_go(key: str, folder: str | None) -> None:
    """Those of accounts."""
    assert copied_folder(key) == folder


def test_a_folder_names_its_account() -> None:
    """By its parts."""
    assert AccountFolder.of_key(TALK) == AccountFolder(PAGE, "u-1", "facebook", "7001")
