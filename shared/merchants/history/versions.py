"""`Versions`: what a document was before the bot changed it, kept in the store for 30 days.

The version of `conversations/1.json` in the folder of an account is there, too, with the bytes that
were stored: `versions/<day>/conversations/1.json`. So what deletes the folder deletes its versions.
`<day>` is `20261128` (UTC) for what the document was before its first change of that day, and
`20261128-cut` before the first later one that took something from it: at most two a day, however
often it changes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.clock import Clock, format_utc
from shared.errors import ObjectExists, ObjectMissing, ObjectTooLarge
from shared.merchants.history.keys import MOST_BYTES, AccountFolder
from shared.merchants.inbox import Event
from shared.process.lasting_work import beat
from shared.store.append_only import VersionedBucket
from shared.store.object_store import BoundedSink, ObjectInfo, ObjectStore

KEPT_DAYS = 30

# The topic of an event that a person has caused: bring this version back.
BRING_BACK = "bring_back"

_FOLDER = re.compile(r"users/[^/]+/(?P<platform>[^/]+)/(?P<account>[^/]+)/")
_VERSION = re.compile(rf"(?P<folder>{_FOLDER.pattern})versions/[0-9]{{8}}(?:-cut)?/(?P<name>.+)")


@dataclass(frozen=True)
class Version:
    """A version by its key; `document` is the key of what it is a version of.

    With `copy` it is that version of the object with this key in the second place, which received
    it at `received_at`.
    """

    key: str
    document: str
    platform: str
    account: str
    copy: str | None = None
    received_at: datetime | None = None

    @classmethod
    def of_key(cls, key: str) -> Version | None:
        """The version that has this key, or None for a key of anything else."""
        found = _VERSION.fullmatch(key)
        if found is None:
            return None
        return cls(key, found["folder"] + found["name"], found["platform"], found["account"])

    @classmethod
    def of_copy(cls, key: str, copy: str, received_at: datetime) -> Version | None:
        """The version `copy` of the document `key` in the second place; None for other keys."""
        folder = AccountFolder.of_key(key)
        if folder is None:
            return None
        return cls(key, key, folder.platform, folder.account, copy, received_at)


class Versions:
    """Keeps versions in the store of the documents. Raises `StoreError`.

    `open_second` opens the bucket of the second place; None where there is none.
    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        open_second: Callable[[], VersionedBucket] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._open_second = open_second
        self._lock = threading.Lock()
        self._kept: set[str] = set()  # the keys of one day: it saves a request for each change
        self._day = ""

    def keep(self, document: str, body: bytes, *, cut: bool) -> None:
        """Keep `body`, which is stored under the key `document` and is about to be replaced.

        `cut` says that what comes has less than this, or that this cannot be read.
        """
        day = f"{self._clock.now():%Y%m%d}"
        folder = _FOLDER.match(document)
        assert folder is not None  # noqa: S101 - all documents are in the folder of an account
        name = document[folder.end() :]
        if not self._keep(day, f"{folder[0]}versions/{day}/{name}", body) and cut:
            self._keep(day, f"{folder[0]}versions/{day}-cut/{name}", body)

    def _keep(self, day: str, key: str, body: bytes) -> bool:
        """Put a version; False where there is one with this key."""
        with self._lock:
            if day != self._day:
                self._day, self._kept = day, set()
            if key in self._kept:
                return False
        try:
            sha256 = hashlib.sha256(body).hexdigest()
            self._store.put(key, io.BytesIO(body), {"sha256": sha256})
            kept = True
        except ObjectExists:
            kept = False
        with self._lock:
            self._kept.add(key)
        return kept

    def forget(self) -> None:
        """Take nothing for kept any more: versions were deleted."""
        with self._lock:
            self._kept.clear()

    def read(self, version: Version) -> Any:
        """The document as this version has it; None where it is gone or cannot be read."""
        sink = io.BytesIO()
        bounded = BoundedSink(sink, version.key, MOST_BYTES)
        try:
            if version.copy is None:
                self._store.get(version.key, bounded)
            elif self._open_second is not None:
                self._open_second().get(version.key, bounded, version=version.copy)
            return json.loads(sink.getvalue())
        except (ObjectMissing, ObjectTooLarge, ValueError, RecursionError):
            return None

    def found(self) -> Iterator[tuple[Version, ObjectInfo]]:
        """All versions of all accounts, in the order of keys."""
        for info in self._store.list("users/"):
            beat()
            if version := Version.of_key(info.key):
                yield version, info

    def expire(self) -> int:
        """Delete what the store received more than `KEPT_DAYS` ago; how many versions that was."""
        before = self._clock.now() - timedelta(days=KEPT_DAYS)
        old = [version.key for version, info in self.found() if info.modified_at < before]
        for key in old:
            beat()
            self._store.delete(key)
        return len(old)

    def request(self, key: str) -> tuple[Version, Event]:
        """The version with this key, and the event that has it brought back.

        Raises `ObjectMissing`.
        """
        version = Version.of_key(key)
        if version is None:
            raise ObjectMissing(
                f"{key} is not the key of a version", "See: ./bot shared versions list"
            )
        self._store.head(key)
        return version, request_of(version, format_utc(self._clock.now()))


def request_of(version: Version, at: str) -> Event:
    """The event that has this version brought back; `at` is when it was asked for."""
    name = f"{BRING_BACK} {version.key} {version.copy or ''} {at}"
    body: dict[str, str] = {"version": version.key}
    if version.copy is not None and version.received_at is not None:
        body |= {"copy": version.copy, "received_at": version.received_at.isoformat()}
    return Event(version.platform, name, version.account, BRING_BACK, json.dumps(body))


def version_of(event: Event) -> Version | None:
    """The version that an event wants back; None where it names none of its account."""
    body = json.loads(event.body)
    key, copy = str(body.get("version")), body.get("copy")
    if copy is None:
        version = Version.of_key(key)
    else:
        version = Version.of_copy(key, str(copy), datetime.fromisoformat(body["received_at"]))
    if version is None or (version.platform, version.account) != (event.provider, event.account):
        return None
    return version
