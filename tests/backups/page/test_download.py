"""A stored object on its way to a browser: whole, or visibly cut."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.errors import SourceUnknown
from backups.page.download import Download, stored_object, stream
from shared.errors import ObjectMissing, StoreUnreachable
from shared.store.directory import DirectoryStore
from shared.store.object_store import ByteProgress, Sink, ignore_bytes
from tests.support.records import a_set, a_stored_object
from tests.support.waiting import eventually

KEY = "backups/tokens_2026-11-22.db"
BODY = os.urandom(12 * 1024 * 1024)


class BreakingStore(DirectoryStore):
    """A store whose line breaks in the middle of an object."""

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """Write a half, then raise."""
        sink.write(BODY[: len(BODY) // 2])
        raise StoreUnreachable("the line broke", "")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """A store with one object."""
    path = tmp_path / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    return DirectoryStore(tmp_path)


def downloads() -> list[str]:
    """The threads that fetch for a reader."""
    return [thread.name for thread in threading.enumerate() if thread.name == "download"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Each thread ends with its download."""
    yield
    eventually(lambda: not downloads(), "the end of all downloads")


def test_all_bytes_in_order(store: DirectoryStore) -> None:
    """What comes out is what is stored."""
    found = hashlib.sha256()
    for chunk in Download(store, KEY, len(BODY)).chunks():
        found.update(chunk)
    assert found.digest() == hashlib.sha256(BODY).digest()


def test_what_a_browser_is_told(store: DirectoryStore) -> None:
    """Length, a name without a folder, and the hash by which the bytes can be compared."""
    stored = a_stored_object(bytes=len(BODY))
    headers = stream(store, stored).headers
    assert headers["content-length"] == str(len(BODY))
    assert headers["content-disposition"] == 'attachment; filename="tokens_2026-11-22.db"'
    assert headers["etag"] == f'"{stored.sha256}"'


def test_a_reader_who_leaves(store: DirectoryStore) -> None:
    """The store is not read any further, and nothing is left running."""
    chunks = Download(store, KEY, len(BODY)).chunks()
    next(chunks)
    assert downloads()
    chunks.close()


def test_a_store_that_fails_on_the_way(tmp_path: Path) -> None:
    """The reader gets the error after what had come, never a quiet end."""
    chunks = Download(BreakingStore(tmp_path), KEY, len(BODY)).chunks()
    assert next(chunks) == BODY[: len(BODY) // 2]
    with pytest.raises(StoreUnreachable):
        next(chunks)


def test_before_the_first_byte(store: DirectoryStore) -> None:
    """An object that is gone, or has another size than its manifest says, is an error in time."""
    with pytest.raises(ObjectMissing):
        stream(store, a_stored_object("sessions"))
    with pytest.raises(ObjectMissing, match="its manifest records"):
        stream(store, a_stored_object(bytes=len(BODY) - 1))


def test_an_object_by_its_source() -> None:
    """A source that the set does not have is named, with those that it has."""
    assert stored_object(a_set(), "sessions").source == "sessions"
    with pytest.raises(SourceUnknown) as caught:
        stored_object(a_set(), "orders")
    assert "tokens, sessions" in caught.value.hint
