"""Reading an object as a file is read, for what unpacks it as it comes."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.store.object_store import Sink
from shared.threads import start

# Of the largest pieces that a store hands over (`CHUNK_BYTES`) so many wait in memory.
_MOST_WAITING = 2
_SECONDS_BETWEEN_LOOKS = 0.2
# How long a reader that goes waits for a store that is silent.
_GRACE_SECONDS = 2.0


class _Gone(Exception):
    """Ends a `get` whose reader has gone."""


class PulledObject:
    """What a `get` brings, in the order in which it comes; `error` is what ended the `get`."""

    def __init__(self) -> None:
        # Not a queue with a bound: a signal that comes while one waits for it would break it.
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._room = threading.Semaphore(_MOST_WAITING)
        self._ended = threading.Event()
        self._left = threading.Event()
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def write(self, chunk: bytes, /) -> int:
        """Hand the next piece over, as soon as there is room; for the `get`."""
        while not self._room.acquire(timeout=_SECONDS_BETWEEN_LOOKS):
            if self._left.is_set():
                raise _Gone
        self._pieces.put(bytes(chunk))
        return len(chunk)

    def read(self, size: int = -1) -> bytes:
        """At most `size` of the next bytes, none at the end; raises what ended the `get`."""
        while not self._rest:
            over = self._ended.is_set()  # asked first: what came before the end is in the queue
            try:
                piece = self._pieces.get(timeout=0 if over else _SECONDS_BETWEEN_LOOKS)
                self._room.release()
            except queue.Empty:
                if not over:
                    continue
                if self.error is not None:
                    raise self.error from None
                return b""
            self._rest = memoryview(piece)
        end = len(self._rest) if size < 0 else size
        found, self._rest = self._rest[:end].tobytes(), self._rest[end:]
        return found

    def drain(self) -> None:
        """Read what is left; raises what ended the `get`."""
        while self.read():
            pass

    def fetch(self, get: Callable[[Sink], None]) -> None:
        """Run the `get`, in its thread."""
        try:
            get(self)
        except _Gone:
            pass
        except BaseException as error:  # raised again in the reader's thread
            self.error = error
        finally:
            self._ended.set()

    def leave(self) -> None:
        """Nobody reads any more: the `get` ends with its next piece."""
        self._left.set()
        self._ended.wait(_GRACE_SECONDS)


@contextmanager
def pulled(get: Callable[[Sink], None]) -> Iterator[PulledObject]:
    """A reader of what `get` writes, which runs in a thread of its own meanwhile.

    So the next bytes are on their way while those before them are unpacked. What `get` raises,
    `read` raises. Of a reader that leaves early, `get` hears at its next write.
    """
    found = PulledObject()
    start(
        threading.Thread(
            target=contextvars.copy_context().run, args=(found.fetch, get), name="get", daemon=True
        )
    )
    try:
        yield found
    finally:
        found.leave()
