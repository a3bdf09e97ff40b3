"""`MerchantData`: JSON documents under `users/` in the store, written only when they changed."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from shared.clock import Clock
from shared.errors import ObjectMissing
from shared.logs import fields
from shared.merchants.history.versions import Versions
from shared.store.append_only import VersionedBucket
from shared.store.object_store import DocumentStore

_log = logging.getLogger(__name__)
_LOCKS = 64


class MerchantData:
    """Reads, merges and writes documents. Only one process of an installation may change them.

    Within it, changes of one document come one after the other. Raises `StoreError`.
    """

    def __init__(
        self,
        store: DocumentStore,
        clock: Clock,
        open_second: Callable[[], VersionedBucket] | None = None,
    ) -> None:
        self._store = store
        self.versions = Versions(store, clock, open_second)
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._folders = [threading.Lock() for _ in range(_LOCKS)]

    @contextmanager
    def alone(self, folder: str) -> Iterator[None]:
        """Keep others out of this block for the same folder of documents.

        Whose it is is asked, and something changed, in one such block, as the folder and its
        owner are deleted in one: what was deleted is not written again by who asked before.
        """
        with self._folders[hash(folder) % _LOCKS]:
            yield

    def read(self, key: str) -> Any:
        """The document, or None when there is none that can be read."""
        return _parsed(key, self._bytes(key))

    def change(
        self, key: str, change: Callable[[Any], Any], *, keep_versions: bool = False
    ) -> bool:
        """Put `change(document)` in place of the document; whether that was anything new.

        `change` gets None when there is no document; the document itself must stay as it is.
        With `keep_versions`, for what cannot be fetched again, see `Versions` for what it was.
        """
        with self._locks[hash(key) % _LOCKS]:
            stored = self._bytes(key)
            before = _parsed(key, stored)
            after = canonical(change(before))
            if before is not None and canonical(before) == after:
                return False
            if keep_versions and stored is not None:
                cut = before is None or len(after) < len(canonical(before))
                self.versions.keep(key, stored, cut=cut)
            self._store.replace(key, after)
        _log.info("stored", extra=fields(key=key, bytes=len(after)))
        return True

    def keys(self, prefix: str) -> list[str]:
        """The keys of the documents below `prefix`, in order."""
        return sorted(found.key for found in self._store.list(prefix))

    def remove_all(self, prefix: str, keep: Collection[str] = ()) -> int:
        """Delete the documents below `prefix`, which ends with a slash, but those to `keep`; how
        many there were."""
        assert prefix.endswith("/")  # noqa: S101 - `users/1` is also how `users/10` begins
        keys = [key for key in self.keys(prefix) if key not in keep]
        for key in keys:
            self._store.delete(key)
        self.versions.forget()
        return len(keys)

    def _bytes(self, key: str) -> bytes | None:
        sink = io.BytesIO()
        try:
            self._store.get(key, sink)
        except ObjectMissing:
            return None
        return sink.getvalue()


def _parsed(key: str, stored: bytes | None) -> Any:
    """The document that these bytes are, or None where they are none."""
    if stored is None:
        return None
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        _log.warning("a stored document is not valid JSON", extra=fields(key=key))
        return None


def canonical(document: Any) -> bytes:
    """The one JSON text of a document: sorted names, no blanks, UTF-8."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate, which a sender may write as \ud800, stays that.
    return text.encode(errors="backslashreplace")


def user_folder(user: str) -> str:
    """How the keys of a user's documents begin; raises `ValueError` for what is no user's id."""
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}", user):
        raise ValueError("a user's id is a UUID")
    return f"users/{user}/"
