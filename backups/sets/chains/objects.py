"""Reading an increment or a differential: its mark, its line, and its bodies by their SHA-256."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from backups.errors import IncrementBroken, ManifestInvalid
from backups.format import increment
from backups.format.chain_keys import instance_of, parse_chain_key
from backups.format.increment import Increment
from backups.format.mark import Marks
from shared.errors import ObjectMissing, ObjectTooLarge
from shared.store.object_store import BoundedSink, ObjectStore

HINT = "Choose another restore point: ./bot backups list"


@dataclass(frozen=True)
class ReadIncrement:
    """An increment or differential that is what its key, its mark and its line say.

    `stored` is the whole object, and `sha256` that of it, which the next one names.
    """

    key: str
    line: Increment
    stored: bytes
    sha256: str

    def body(self, source: str) -> memoryview | None:
        """The body of a source, as stored; None where the source did not change."""
        bodies = increment.split(self.stored, self.line, self.key)
        found = zip(self.line.sources, bodies, strict=True)
        return next((body for change, body in found if change.source == source), None)


def fetch_increment(store: ObjectStore, marks: Marks, key: str, size: int) -> ReadIncrement:
    """The object under `key`, which has `size` bytes in the listing.

    Raises `IncrementBroken` and `ManifestInvalid` for one that is gone, or is not what its key,
    its mark and its line say, and `StoreError`.
    """
    try:
        stored, _ = get_increment(
            store, key, min(size, increment.MOST_BYTES), lambda line: _read_line(marks, key, line)
        )
    except ObjectMissing as error:
        raise IncrementBroken(f"{key} is not in the store any more", HINT) from error
    except ObjectTooLarge as error:
        raise IncrementBroken(f"{key} has more than its {size:,} bytes", HINT) from error
    return read_increment(marks, key, stored)


def read_increment(
    marks: Marks, key: str, stored: bytes, *, of_pack: bool = False
) -> ReadIncrement:
    """The same of bytes that are here.

    `of_pack`: they are those that the marked index of a pack names. That counts where their own
    mark was made with a key that was rotated away since.
    """
    parsed = _read_line(marks, key, increment.line_of(stored, key), of_pack=of_pack)
    bodies = increment.split(stored, parsed, key)
    for change, body in zip(parsed.sources, bodies, strict=True):
        if sha256(body).hexdigest() != change.sha256:
            raise IncrementBroken(
                f"the body of {change.source} in {key} is not what its line describes", HINT
            )
    return ReadIncrement(key, parsed, stored, sha256(stored).hexdigest())


def get_increment(
    store: ObjectStore, key: str, most: int, read_line: Callable[[bytes], Increment]
) -> tuple[bytes, Increment]:
    """The object under `key`, of at most `most` bytes, and its line as `read_line` reads it.

    That is called as soon as the line is here: what it refuses, by raising, is not fetched any
    further, and nothing is fetched beyond what the line says. Raises `ManifestInvalid`,
    `StoreError`, `ObjectTooLarge`.
    """
    sink = _LineFirst(key, read_line)
    store.get(key, BoundedSink(sink, key, most))
    return bytes(sink.stored), sink.line or read_line(increment.line_of(sink.stored, key))


class _LineFirst:
    """A sink that keeps what it takes, and looks at the line before the bodies."""

    def __init__(self, key: str, read_line: Callable[[bytes], Increment]) -> None:
        self.stored = bytearray()
        self.line: Increment | None = None
        self._key, self._read_line = key, read_line
        self._most = 0

    def write(self, chunk: bytes, /) -> None:
        """See `Sink.write`."""
        self.stored += chunk
        if self.line is None:
            if b"\n" not in chunk and len(self.stored) <= increment.MOST_LINE_BYTES:
                return
            line = increment.line_of(self.stored, self._key)
            self.line = self._read_line(line)
            self._most = len(line) + 1 + self.line.bytes_of_bodies
        if len(self.stored) > self._most:
            increment.split(self.stored, self.line, self._key)  # says what is wrong


def _read_line(marks: Marks, key: str, line: bytes, *, of_pack: bool = False) -> Increment:
    of = parse_chain_key(marks.prefix, key)
    if of is None or of.kind not in ("increment", "differential"):
        raise ManifestInvalid(f"{key} is no key of an increment", HINT)
    checked = marks.check(key, line)
    by_older_key = checked.outcome in ("unknown_key", "unsigned") and checked.fingerprint
    if checked.outcome != "valid" and not (of_pack and by_older_key):
        raise IncrementBroken(f"{key} {_OF_A_MARK.get(checked.outcome, 'is not marked')}", HINT)
    kind: increment.IncrementKind = "increment" if of.kind == "increment" else "differential"
    parsed = increment.load_line(line, key=key, chain=of.chain, number=of.first, kind=kind)
    if parsed.instance != instance_of(of.chain):
        raise ManifestInvalid(f"{key} was made by another installation than its chain", HINT)
    return parsed


_OF_A_MARK = {
    "unsigned": "has no mark",
    "unknown_key": "was marked with a key that is not here",
    "wrong": "has a mark that is not its own",
}
