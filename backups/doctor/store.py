"""What the doctor looks at in the store, with probes if it may write."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from uuid import uuid4

from backups.service import BackupService
from backups.vocabulary.examination import Line
from shared.errors import ObjectMissing, ObjectTooLarge, StoreAccessDenied, StoreFailing
from shared.settings.load import Settings
from shared.store.object_store import BoundedSink, ObjectStore, get_document
from shared.words import counted

_SKEW_SECONDS = 60


def check_store(settings: Settings, service: BackupService, *, write: bool) -> Iterator[Line]:
    """Whether the store answers, keeps what it has, and shows it to nobody; raises `StoreError`."""
    store = service.store
    service.catalogue.refresh()
    yield Line("ok", "store", f"{store.location} can be reached and listed")
    if not store.offsite:
        yield Line(
            "warning",
            "store",
            f"not offsite: {store.location} is on this host's own disk",
            "Set the five SPACES_ settings in .env, and restart.",
        )
    if missing := service.own_sets.missing_points():
        yield Line(
            "problem",
            "store",
            f"{counted(len(missing), 'restore point')} vanished or lost their "
            f"objects: {', '.join(one.id for one in missing[:5])}{' …' if missing[5:] else ''}",
            "Bring them back from the bucket's older versions, or make a set (./bot backups "
            "run) and accept the loss: ./bot backups accept --missing",
        )
    latest = service.own_sets.latest()
    if latest is not None:
        newest = latest.objects[0]
        try:
            store.get(newest.key, BoundedSink(_Nowhere(), newest.key, newest.bytes))
        except (ObjectMissing, ObjectTooLarge, StoreAccessDenied, StoreFailing) as error:
            yield Line("problem", "store", f"{error.message} [{error.code}]", error.hint)
        else:
            yield Line("ok", "store", f"{newest.key} can be read")
    if settings.spaces is not None:
        yield from _spaces(settings, service, latest.objects[0].key if latest else None)
    if write:
        yield from _write_probe(service)


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, chunk: bytes, /) -> int:
        return len(chunk)


def _spaces(settings: Settings, service: BackupService, key: str | None) -> Iterator[Line]:
    spaces = settings.spaces
    assert spaces is not None  # noqa: S101 - asked for by the caller
    if key is None:
        return
    answer, date = _anonymous(f"{spaces.endpoint}/{spaces.bucket}/{key}", spaces.ca_bundle)
    if answer == 200:
        yield Line(
            "problem",
            "store",
            f"{key} can be read by anybody, without credentials",
            "Make the bucket private, and rotate the secrets in it: they may have been read.",
        )
    elif answer is None:
        yield Line(
            "warning", "store", "could not check whether the bucket is private", "Run it again."
        )
    else:
        yield Line("ok", "store", f"{key} cannot be read without credentials ({answer})")
    if date is not None:
        skew = abs((date - service.clock.now()).total_seconds())
        if skew > _SKEW_SECONDS:
            yield Line(
                "problem" if skew > 600 else "warning",
                "clock",
                f"this host's clock and the store's differ by {skew:.0f} s",
                "Set the clock: timedatectl set-ntp true",
            )
        else:
            yield Line("ok", "clock", f"within {_SKEW_SECONDS} s of the store's")
    versioning = getattr(service.store, "versioning", None)
    state = versioning() if versioning else None
    if state == "Enabled":
        yield Line("ok", "store", "versioning is on")
    elif state is not None:
        yield Line(
            "warning",
            "store",
            f"versioning is {state.lower()}: an object that is deleted by mistake is lost",
            "Turn it on through the S3 API: aws s3api put-bucket-versioning ...",
        )


def _anonymous(url: str, ca_bundle: str | None) -> tuple[int | None, datetime | None]:
    """The status of a request without credentials, and the server's time."""
    import ssl  # noqa: PLC0415 - only the doctor needs it

    context = ssl.create_default_context(cafile=ca_bundle)
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - from checked settings
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            return answer.status, _date(answer.headers.get("Date"))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _date(error.headers.get("Date"))
    except (OSError, ValueError):
        return None, None


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    # RFC 5322: `-0000` is UTC without a zone, and is parsed without one.
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found


def _write_probe(service: BackupService) -> Iterator[Line]:
    store: ObjectStore = service.store
    key = f"{service.config.prefix}doctor/{uuid4().hex}"
    try:
        store.put(key, BytesIO(b"probe"), {"sha256": "probe"})
        store.check(key, b"other")
        if get_document(store, key, 5) != b"probe":
            yield Line(
                "problem",
                "store",
                "a second put of a key replaced the first: the store ignores conditional puts",
                "Use a store that honours If-None-Match: *.",
            )
        else:
            yield Line("ok", "store", "stores objects, and does not overwrite them")
    finally:
        store.delete(key)
    try:
        store.head(key)
    except ObjectMissing:
        yield Line("ok", "store", "deletes objects")
    else:
        yield Line(
            "problem", "store", "accepted a delete, but still has the object", "Ask its provider."
        )
