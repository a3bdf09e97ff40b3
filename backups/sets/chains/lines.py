"""The line that an increment, a differential or a pack begins with, without what follows it."""

from __future__ import annotations

from backups.errors import IncrementBroken
from backups.format import increment, pack
from backups.format.chain_keys import parse_chain_key
from shared.errors import ObjectMissing
from shared.store.object_store import ObjectStore

_HINT = "Choose another restore point: ./bot backups list"


def fetch_line(store: ObjectStore, prefix: str, key: str) -> bytes:
    """The line of the object under `key`, without its end; its mark is the caller's to check.

    Raises `IncrementBroken` for one that is gone, `ManifestInvalid` where there is no line, and
    `StoreError`.
    """
    of = parse_chain_key(prefix, key)
    is_pack = of is not None and of.kind == "pack"
    line = _LineSink(pack.MOST_LINE_BYTES if is_pack else increment.MOST_LINE_BYTES)
    try:
        store.get(key, line)
    except _Enough:
        pass
    except ObjectMissing as error:
        raise IncrementBroken(f"{key} is not in the store any more", _HINT) from error
    return (pack.line_of if is_pack else increment.line_of)(line.begun, key)


class _Enough(Exception):
    """The line has come, or more than a line may have."""


class _LineSink:
    def __init__(self, most: int) -> None:
        self.begun = b""
        self._most = most

    def write(self, chunk: bytes, /) -> None:
        """See `Sink.write`."""
        self.begun += chunk[: self._most + 1 - len(self.begun)]
        if b"\n" in self.begun or len(self.begun) > self._most:
            raise _Enough
