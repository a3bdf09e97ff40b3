"""What is to be copied, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from backups.format.chain_keys import ChainKey, instance_of
from backups.sets.chains.objects_table import Document
from backups.sets.seal_streams import HashingWriter
from shared.errors import AppError
from shared.store.object_store import ObjectInfo


@dataclass(frozen=True)
class Wanted:
    """An object of `size` bytes that the second place should have.

    `sha256` is known of data before it is read, `document` has the bytes of what is known here.
    `owner` is the metadata by which a deletion knows whose it is: of a copy as of the object.
    """

    key: str
    size: int
    modified_at: datetime
    sha256: str | None = None
    document: Document | None = None
    in_chain: ChainKey | None = None
    owner: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_document(cls, info: ObjectInfo, document: bytes, owner: Mapping[str, str]) -> Wanted:
        """A document whose bytes are known here."""
        sha256 = hashlib.sha256(document).hexdigest()
        return cls(info.key, len(document), info.modified_at, sha256, document, owner=owner)


def owner_of_set(set_id: str, instance: str) -> dict[str, str]:
    """The metadata of what belongs to a set."""
    return {"set-id": set_id, "instance": instance}


def owner_of_chain(chain: str) -> dict[str, str]:
    """The metadata of what belongs to a chain."""
    return {"chain": chain, "instance": instance_of(chain)}


@dataclass
class Copied:
    """What a copying did (`size` in bytes), and what it left.

    `keys` are what the second place should have, `refused` says of each object that is not what a
    mark says, or that has another one in its way, why. `error` is the last fault of a place that
    kept an object back.
    """

    copied: int = 0
    size: int = 0
    keys: set[str] = field(default_factory=set)
    waiting: list[Wanted] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    error: AppError | None = None

    @property
    def behind_since(self) -> datetime | None:
        """The time of the oldest object that is not there yet."""
        return min((one.modified_at for one in self.waiting), default=None)


class Paced:
    """Passes pieces on, and lets `go_on` hold the pace."""

    def __init__(self, sink: HashingWriter, go_on: Callable[[int], None]) -> None:
        self._sink = sink
        self._go_on = go_on

    def write(self, chunk: bytes, /) -> object:
        """See `Sink.write`."""
        self._go_on(len(chunk))
        return self._sink.write(chunk)


class SentBytes:
    """Tells `go_on` of the bytes that went since the last call."""

    def __init__(self, go_on: Callable[[int], None]) -> None:
        self._go_on = go_on
        self._before = 0

    def __call__(self, done: int) -> None:
        """So many bytes have gone in all."""
        self._go_on(max(done - self._before, 0))
        self._before = done
