"""Which version of an object is ours: by its mark, or by the manifest that names its bytes."""

from __future__ import annotations

from contextlib import suppress

from backups.errors import ManifestInvalid
from backups.format import increment, manifest, naming, pack
from backups.format.chain_keys import DOCUMENTS, parse_chain_key
from backups.format.document import MOST_BYTES
from backups.format.mark import Marks
from backups.sets.seal_streams import HashingWriter
from shared.errors import ObjectTooLarge, StoreError
from shared.store.append_only import AppendOnlyStore, Read
from shared.store.object_store import BoundedSink, get_document

_OUTCOMES = {"valid": True, "wrong": False}


class VersionJudge:
    """Judges by today's keys; `store` is the one whose manifests say what data should be."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self.store: AppendOnlyStore | None = None

    def is_right(self, key: str, read: Read) -> bool | None:
        """Whether what is read is what should be under `key`; None where nobody can say."""
        prefix = self._marks.prefix
        if naming.parse_data_key(prefix, key) is not None:
            return self._is_data(key, read)
        in_chain = parse_chain_key(prefix, key)
        if in_chain is not None and in_chain.kind not in DOCUMENTS:
            most = pack.MOST_LINE_BYTES if in_chain.kind == "pack" else increment.MOST_LINE_BYTES
            return self._is_marked(key, _line(read, key, most))
        return self._is_marked(key, _whole(read, key))

    def _is_marked(self, key: str, document: bytes | None) -> bool | None:
        if document is None:
            return False
        return _OUTCOMES.get(self._marks.check(key, document).outcome)

    def _is_data(self, key: str, read: Read) -> bool | None:
        expected = self._expected(key)
        if not expected:
            return None
        found = HashingWriter(None)
        with suppress(StoreError):
            read(found)
            return found.hexdigest() in expected
        return False

    def _expected(self, key: str) -> frozenset[str]:
        """The SHA-256 that marked manifests of the day name for what is under a key."""
        of = naming.parse_data_key(self._marks.prefix, key)
        if of is None or self.store is None:
            return frozenset()
        found = set()
        sets = naming.sets_prefix(self._marks.prefix)
        for one in self.store.list(f"{sets}{of.day:%Y%m%d}"):
            if not one.key.endswith(f"/{naming.MANIFEST}.json"):
                continue
            with suppress(ManifestInvalid, StoreError):
                document = get_document(self.store, one.key, MOST_BYTES)
                if self._marks.check(one.key, document).outcome == "valid":
                    loaded = manifest.load_manifest(document, prefix=self._marks.prefix)
                    found |= {stored.sha256 for stored in loaded.objects if stored.key == key}
        return frozenset(found)


class _Line(Exception):
    """Ends a reading with the first line."""


class _FirstLine:
    """A sink that ends the reading at the end of the first line."""

    def __init__(self) -> None:
        self.found = bytearray()

    def write(self, chunk: bytes, /) -> None:
        line, newline, _ = chunk.partition(b"\n")
        self.found += line
        if newline:
            raise _Line


def _line(read: Read, key: str, most: int) -> bytes | None:
    sink = _FirstLine()
    try:
        read(BoundedSink(sink, key, most + 1024 * 1024))
    except _Line:
        return bytes(sink.found)
    except (ObjectTooLarge, StoreError):
        pass
    return None


def _whole(read: Read, key: str) -> bytes | None:
    found = bytearray()

    class _Kept:
        def write(self, chunk: bytes, /) -> None:
            found.extend(chunk)

    try:
        read(BoundedSink(_Kept(), key, MOST_BYTES))
    except StoreError:
        return None
    return bytes(found)
