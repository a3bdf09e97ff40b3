"""`ModelStore`: an `ObjectStore` that is a dictionary, and fails as a test says.

The dictionary is the truth that an oracle reads; what the program is told may differ from it:
calls that are not answered, that arrive late, and listings that lack, repeat or mix keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import BinaryIO, Literal

from shared.clock import Clock
from shared.errors import ObjectExists, ObjectMissing, StoreUnreachable
from shared.store.object_store import (
    ByteProgress,
    ObjectInfo,
    Sink,
    StoreKind,
    ignore_bytes,
    is_own_echo,
    lower_names,
)
from tests.support.moments import Moments

Listing = Literal["whole", "no tail", "no manifests", "each third missing", "twice", "backwards"]
LISTINGS: tuple[Listing, ...] = (
    "whole",
    "no tail",
    "no manifests",
    "each third missing",
    "twice",
    "backwards",
)
# What becomes of the call with a number: it and all that follow are not done; it alone is not
# done; it is done, and the answer is lost; it is done when the operation is over.
StoreFault = Literal["away", "once", "lost", "late"]


@dataclass(frozen=True)
class Kept:
    """An object."""

    body: bytes
    metadata: Mapping[str, str]
    modified_at: datetime


class ModelStore:
    """Objects in a dictionary. `before_delete` is called with the key of each that goes."""

    kind: StoreKind = "directory"
    offsite = False
    location = "a dictionary"

    def __init__(self, clock: Clock, moments: Moments) -> None:
        self.objects: dict[str, Kept] = {}
        self.before_delete: Callable[[str], None] = lambda _: None
        self.listing: Listing = "whole"
        self._clock = clock
        self._moments = moments
        self._fault: tuple[StoreFault, int] | None = None
        self._calls = 0
        self._late: list[tuple[str, Kept]] = []

    def fail(self, fault: StoreFault, number: int) -> None:
        """Let the call with this number from now on, the first is 0, fail in this way."""
        self._fault, self._calls = (fault, number), 0

    def recover(self) -> None:
        """Answer all calls again; what is late arrives."""
        self._fault, self.listing = None, "whole"
        for key, late in self._late:
            self.objects.setdefault(key, late)
        self._late.clear()

    def check(self, key: str, body: bytes) -> None:
        """See `ObjectStore.check`; nothing is ever overwritten here."""
        with suppress(ObjectExists):
            self.put(key, BytesIO(body), {})

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """See `ObjectStore.put`."""
        body.seek(0)
        kept = Kept(body.read(), lower_names(metadata), self._clock.now())
        with self._answered("put", key, (key, kept)):
            if key in self.objects:
                if not is_own_echo(self._info(key), len(kept.body), metadata):
                    raise ObjectExists(f"{key} exists already", "Use another key.")
            else:
                self.objects[key] = kept
        progress(len(kept.body))

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """See `ObjectStore.get`."""
        with self._answered("get", key):
            self._info(key)
            sink.write(self.objects[key].body)
        progress(len(self.objects[key].body))

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""
        with self._answered("head", key):
            return self._info(key)

    def list(self, prefix: str) -> list[ObjectInfo]:
        """See `ObjectStore.list`; as `listing` says."""
        with self._answered("list", prefix):
            found = [self._info(key) for key in sorted(self.objects) if key.startswith(prefix)]
        match self.listing:
            case "no tail":
                return found[: len(found) // 2]
            case "no manifests":
                return [one for one in found if not one.key.endswith("/manifest.json")]
            case "each third missing":
                return [one for place, one in enumerate(found) if place % 3 != 2]
            case "twice":
                return [*found, *found]
            case "backwards":
                return found[::-1]
            case _:
                return found

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with self._answered("delete", key):
            if key in self.objects:
                self.before_delete(key)
                del self.objects[key]

    def abort_unfinished(
        self, prefix: str, before: datetime, could_be_ours: Callable[[str], bool]
    ) -> None:
        """See `ObjectStore.abort_unfinished`: a put is whole here, or not at all."""

    def _info(self, key: str) -> ObjectInfo:
        if key not in self.objects:
            raise ObjectMissing(f"there is no object {key}", "Check BACKUP_PREFIX.")
        kept = self.objects[key]
        return ObjectInfo(key, len(kept.body), kept.modified_at, kept.metadata)

    @contextmanager
    def _answered(
        self, operation: str, key: str, late: tuple[str, Kept] | None = None
    ) -> Iterator[None]:
        self._moments.go_through(operation)
        fault, number = self._fault or (None, 0)
        number, self._calls = self._calls - number, self._calls + 1
        gone = StoreUnreachable(f"{operation} {key}: there was no answer", "Check the network.")
        if fault == "late" and number == 0 and late is not None:
            self._late.append(late)
        if (fault == "away" and number >= 0) or (fault in ("once", "late") and number == 0):
            raise gone
        yield
        self._moments.go_through(f"{operation} done")
        if fault == "lost" and number == 0:
            raise gone
