"""SQLite's checks of the snapshots of a set: each begins when its copy is there, two at a time, and
goes on while the others are copied, sealed, sent and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Semaphore

from backups.model import SnapshotFile
from backups.runs.parallel import MAX_WORKERS, beside
from backups.sources.checking.soundness import Soundness, examine

_SECONDS_BETWEEN_QUESTIONS = 0.2


class SoundnessChecks:
    """The checks of one set; see `open_checks`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._turns = Semaphore(MAX_WORKERS)
        self._known: dict[str, Callable[[Callable[[], None]], Soundness]] = {}

    def begin(self, source: str, path: Path) -> None:
        """Check a copy to which nobody writes any more. Any thread may."""

        def look(ask: Callable[[], None]) -> Soundness:
            while not self._turns.acquire(timeout=_SECONDS_BETWEEN_QUESTIONS):
                ask()
            try:
                return examine(source, path, ask)
            finally:
                self._turns.release()

        self._known[source] = self._stack.enter_context(beside(look))

    def results(self, sources: Iterable[str], report: Callable[[], None]) -> dict[str, Soundness]:
        """What was found of each, once it is; `report` is called meanwhile, and may end it.

        Raises `SnapshotDamaged`.
        """
        return {source: self._known[source](report) for source in sources}


@contextmanager
def open_checks(files: Iterable[SnapshotFile] = ()) -> Iterator[SoundnessChecks]:
    """None of the checks that are begun in the block goes on after it; those of `files` begin."""
    with ExitStack() as stack:
        checks = SoundnessChecks(stack)
        for file in files:
            checks.begin(file.source, file.path)
        yield checks
