"""Packs the chain of a folder in a process that dies, as by kill -9, at one of its requests.

    python -m tests.support.packing_process FOLDER CHAIN NOW NUMBER before|after

It dies at the request with that number, counted from 0, before or after the store has done it, and
in a thread of the packing where that makes it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from backups.increments.keeping.pack import Packing, pack_chain
from shared.store.directory import DirectoryStore
from tests.support.marks import MARKS
from tests.support.small_chain import INSTANCE, open_known
from tests.support.store_wrappers import Operation, WatchedStore


class _DyingStore(WatchedStore):
    def __init__(self, folder: Path, number: int, *, done: bool) -> None:
        super().__init__(DirectoryStore(folder))
        self._number, self._done = number, done

    @contextmanager
    def _watched(self, operation: Operation, key: str) -> Iterator[None]:
        number = len(self.calls)
        self.calls.append((operation, key))
        if number == self._number and not self._done:
            os.kill(os.getpid(), signal.SIGKILL)
        yield
        if number == self._number:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Pack, as far as it gets."""
    folder, chain, now, number, when = sys.argv[1:]
    place = Path(folder)
    store = _DyingStore(place / "store", int(number), done=when == "after")
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    with closing(open_known(place)) as known:
        packing = Packing(store, known, MARKS, INSTANCE, scratch)
        pack_chain(packing, chain, int(now), ended=True)


if __name__ == "__main__":
    main()
