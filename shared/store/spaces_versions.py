"""`VersionedSpaces`: a bucket that can keep the versions of its objects, and lock them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from botocore import exceptions as boto_errors

from shared.errors import StoreCannotLock, StoreError
from shared.store.append_only import LockMode, ObjectVersion
from shared.store.object_store import callers_faults_unchanged, ignore_bytes
from shared.store.s3_errors import NotS3Error
from shared.store.s3_uploads import WatchedBody
from shared.store.spaces import UNLESS_THERE, SpacesStore
from shared.store.spaces_access import SpacesSettings

# What servers answer whose bucket has no object lock, or that know none.
_NO_LOCK = (
    *("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"),
    *("NotImplemented", "MethodNotAllowed", "InvalidRequest"),
)


class VersionedSpaces(SpacesStore):
    """The same, and what it has of versions and locks."""

    def __init__(
        self,
        settings: SpacesSettings,
        *,
        lock: timedelta | None = None,
        at_most: timedelta | None = None,
        answer_timeout: float = 60,
    ) -> None:
        """Each object that is put is locked for `lock`, where that is given, else for as long as
        the bucket says; `at_most` is the longest of either."""
        super().__init__(settings, answer_timeout=answer_timeout)
        self._versions = self._client.get_paginator("list_object_versions")
        self._lock = min(lock, at_most) if lock and at_most else lock
        self._at_most = at_most
        self._has_looked = lock is not None or at_most is None
        self._known_mode: LockMode | None = None

    def versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """All versions of all objects below `prefix`, and what hides them, as the store has them.

        A bucket that keeps none has one of each, and a server that does not know versions has what
        it lists.
        """
        pages = iter(self._versions.paginate(Bucket=self._bucket, Prefix=prefix))
        while True:
            try:
                with self._translated("list versions of", prefix):
                    page = next(pages, None)
                    if page is not None and "IsTruncated" not in page:
                        raise NotS3Error(what="no listing")
            except StoreError as error:
                if not isinstance(error.__cause__, boto_errors.ClientError) or (
                    error.__cause__.response.get("Error", {}).get("Code") != "NotImplemented"
                ):
                    raise
                for one in self.list(prefix):
                    yield ObjectVersion(one.key, None, one.size, one.modified_at)
                return
            if page is None:
                return
            for found in page.get("Versions", ()):
                yield ObjectVersion(
                    found["Key"],
                    found.get("VersionId") or None,
                    found["Size"],
                    found["LastModified"],
                    found["IsLatest"],
                    found.get("ETag", ""),
                )
            for marker in page.get("DeleteMarkers", ()):
                yield ObjectVersion(
                    marker["Key"],
                    marker.get("VersionId") or None,
                    None,
                    marker["LastModified"],
                    marker["IsLatest"],
                )

    def cover(self, key: str, body: BinaryIO, metadata: Mapping[str, str]) -> None:
        """Put an object whatever is there: in a bucket with versions, that one stays, too."""
        body.seek(0)
        with callers_faults_unchanged(), self._translated("put", key):
            watched = WatchedBody(body, ignore_bytes, metadata)
            self._put(key, watched, metadata, {})

    def lock_mode(self) -> LockMode | None:
        """How the bucket can lock objects; None where it cannot, or does not say."""
        try:
            with self._translated("ask for the lock of", ""):
                answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except StoreError:
            return None
        found = answer.get("ObjectLockConfiguration", {})
        if found.get("ObjectLockEnabled") != "Enabled":
            return None
        mode = found.get("Rule", {}).get("DefaultRetention", {}).get("Mode", "COMPLIANCE")
        return "GOVERNANCE" if mode == "GOVERNANCE" else "COMPLIANCE"

    def delete_version(self, key: str, version: str, *, bypass: bool = False) -> None:
        """Delete a version for good, past a governance lock with `bypass`."""
        past = {"BypassGovernanceRetention": True} if bypass else {}
        with self._translated("delete a version of", key):
            self._client.delete_object(
                Bucket=self._bucket,
                Key=self._checked(key),
                VersionId=version,
                **past,  # type: ignore[arg-type]
            )

    def _put(
        self,
        key: str,
        body: Any,
        metadata: Mapping[str, str],
        more: Mapping[str, Any] = UNLESS_THERE,
    ) -> None:
        self._look_at_default()
        if self._lock is not None:
            until = datetime.now(UTC) + self._lock
            more = {
                **more,
                "ObjectLockMode": self._mode(),
                "ObjectLockRetainUntilDate": until,
            }
        super()._put(key, body, metadata, more)

    def _look_at_default(self) -> None:
        """Lock for less than the bucket does by default, where that is too long; asked once."""
        if self._has_looked or self._at_most is None:
            return
        days = self._default_days()
        if days and timedelta(days=days) > self._at_most:
            self._lock = self._at_most
        self._has_looked = True

    def _default_days(self) -> int:
        """For how long the bucket locks what is put without a lock; 0 where it does not."""
        try:
            with self._translated("ask for the lock of", ""):
                answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except StoreError as error:
            if not isinstance(error.__cause__, boto_errors.ClientError) or (
                error.__cause__.response.get("Error", {}).get("Code") not in _NO_LOCK
            ):
                raise
            return 0
        rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {})
        default = rule.get("DefaultRetention", {})
        return default.get("Days", 0) + 366 * default.get("Years", 0)

    def _mode(self) -> LockMode:
        """That of the bucket; asked for once. Raises `StoreCannotLock`."""
        if self._known_mode is None:
            self._known_mode = self.lock_mode()
        if self._known_mode is None:
            raise StoreCannotLock(
                f"{self.location} cannot lock objects, and COPY_LOCK_DAYS asks for it",
                "Use a bucket that was made with object lock, or remove COPY_LOCK_DAYS; "
                "docs/two-places.md has both.",
            )
        return self._known_mode
