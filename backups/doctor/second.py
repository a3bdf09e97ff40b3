"""What the doctor looks at in the second place; with probes, whether its key can delete there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import BytesIO
from uuid import uuid4

from backups.operations.second.place import SecondPlace
from backups.service import BackupService
from backups.vocabulary.examination import Line
from shared.errors import ObjectMissing, StoreError
from shared.settings.load import Settings
from shared.store.append_only import AppendOnlyStore, ObjectVersion
from shared.words import counted

_SUBJECT = "second"
_PROTECT = "docs/two-places.md has what protects the copies at each provider."


def check_second(settings: Settings, service: BackupService, *, write: bool) -> Iterator[Line]:
    """Whether the second place answers, and what protects it; raises `StoreError`."""
    second, copy = service.second, settings.copy
    if second is None or copy is None:
        return
    second.catalogue.refresh()
    count = counted(second.catalogue.count(), "restore point")
    yield Line("ok", _SUBJECT, f"{second.config.location} can be listed, and has {count}")
    if settings.spaces is not None and settings.spaces.endpoint == copy.bucket.endpoint:
        yield Line(
            "warning",
            _SUBJECT,
            f"both places are at {copy.bucket.endpoint}: one account that is closed takes both",
            "Use a bucket at another provider, or at least of another account.",
        )
    bucket = second.store.bucket
    versioning, mode = bucket.versioning(), bucket.lock_mode()
    if copy.lock_days:
        level, text = ("ok", f"{mode.lower()} mode") if mode else ("problem", "no object lock")
        yield Line(
            "ok" if level == "ok" else "problem",
            _SUBJECT,
            f"COPY_LOCK_DAYS={copy.lock_days}, and the bucket has {text}",
            "" if mode else f"Make a bucket with object lock, or remove COPY_LOCK_DAYS. {_PROTECT}",
        )
    else:
        yield Line(
            "warning",
            _SUBJECT,
            f"the copies are not locked (COPY_LOCK_DAYS is not set); versioning is "
            f"{versioning.lower()}",
            f"Lock them, or use a key that cannot delete, and versioning. {_PROTECT}",
        )
    if write:
        yield _try_to_delete(second, service.config.prefix)


def _try_to_delete(second: SecondPlace, prefix: str) -> Line:
    """Put a probe, which stays for as long as it is locked, and try to delete it for good."""
    key = f"{prefix}doctor/{uuid4().hex}"
    second.store.put(key, BytesIO(b"probe"), {"sha256": "probe"})
    deletable = _can_delete(second.store, key)
    second.note_deletable(deletable)
    if deletable:
        return Line(
            "problem",
            _SUBJECT,
            "this key CAN delete what is there for good: a probe object is gone. Who steals this "
            "host can delete the copies, too",
            _PROTECT,
        )
    return Line(
        "ok",
        _SUBJECT,
        "this key cannot delete what is there: the deletion of a probe object was refused, or hid "
        "it only",
    )


def _can_delete(store: AppendOnlyStore, key: str) -> bool:
    """Whether no version of the object is left after all that a thief can do."""
    for version in _versions(store, key):
        if version.version is None:
            continue
        for bypass in (False, True):
            try:
                store.bucket.delete_version(key, version.version, bypass=bypass)
            except StoreError:
                continue
            break
    with contextlib.suppress(StoreError):
        store.bucket.delete(key)
    return not _versions(store, key)


def _versions(store: AppendOnlyStore, key: str) -> list[ObjectVersion]:
    found = [one for one in store.bucket.versions(key) if one.key == key and one.size is not None]
    readable = []
    for one in found:
        try:
            store.bucket.head(key, version=one.version)
        except ObjectMissing:
            continue
        readable.append(one)
    return readable
