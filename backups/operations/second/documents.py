"""The application's documents in the second place: copying them, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from backups.errors import RunInterrupted
from backups.host.remembered.second import SecondRecord
from backups.sets.second.documents import CopiedDocuments, DocumentCopying, FateOf
from backups.vocabulary.second import CopyError, Differences, DocumentsConfig, DocumentsState
from shared.clock import Clock
from shared.databases.sqlite import Database
from shared.errors import AppError
from shared.store.append_only import VersionedBucket
from shared.store.object_store import ObjectStore

# After so long what is newly published has its turn first.
SECONDS_AT_ONCE = 60.0


class SecondDocuments:
    """Copies the documents of `first` to the bucket at `location`, which `open_second` opens, and
    which puts them with a lock of their own; `known` is what this host knows of that place.

    `fate_of` is set by who knows it: see `DocumentCopying`. Whoever calls holds the lease of the
    copying.
    """

    def __init__(
        self,
        config: DocumentsConfig,
        first: ObjectStore,
        open_second: Callable[[], VersionedBucket],
        *,
        location: str,
        known: Database,
        record: SecondRecord,
        clock: Clock,
    ) -> None:
        self._config = config
        self._first = first
        self._open_second = open_second
        self._opened: VersionedBucket | None = None
        self._location = location
        self._known = known
        self._record = record
        self._clock = clock
        self.fate_of: FateOf | None = None

    def state(self) -> DocumentsState | None:
        """What the last copying found."""
        return self._record.documents(self._location)

    def copy(
        self, go_on: Callable[[int], None], seconds: float | None = None
    ) -> CopiedDocuments | None:
        """Copy what is not there as it is now, for so long; None where nothing may be copied.

        What ended it otherwise is in the state. Raises `RunInterrupted` and `DatabaseError`.
        """
        before = self.state() or DocumentsState(self._now())
        begun_at = self._record.begun_at(self._location) or self._now()
        is_late = _after(seconds)
        found: CopiedDocuments | None = None
        try:
            # Without versions an overwritten document would be gone, and one that is locked for
            # days could not be overwritten.
            if self._second.versioning() != "Enabled":
                state = DocumentsState(
                    self._now(), before.complete_at, gone=before.gone, versioned=False
                )
            else:
                found = self._copying(go_on).bring(is_late)
                state = self._state_of(found, before, begun_at)
        except RunInterrupted:
            raise
        except AppError as error:
            since = before.behind_since or before.complete_at or begun_at
            state = replace(before, at=self._now(), error=_error_of(error), behind_since=since)
        self._record.note_documents(state, self._location)
        return found

    def _state_of(
        self, found: CopiedDocuments, before: DocumentsState, begun_at: datetime
    ) -> DocumentsState:
        now = self._now()
        return DocumentsState(
            at=now,
            complete_at=before.complete_at if found.waiting > found.too_large else now,
            # What is older than this second place was not to be there before it began.
            behind_since=found.behind_since and max(found.behind_since, begun_at),
            documents=found.documents,
            waiting=found.waiting,
            too_large=found.too_large,
            # What was to be deleted, only the app knows.
            gone=found.gone if self.fate_of is not None else before.gone,
            error=_error_of(found.error) if found.error is not None else None,
        )

    def compare(self, go_on: Callable[[int], None]) -> Differences:
        """Compare both places by listing and by SHA-256; where nothing is copied, nothing."""
        if self._second.versioning() != "Enabled":
            return Differences(0, (), ())
        return self._copying(go_on).compare()

    def give_up(self) -> None:
        """End requests that hang."""
        if self._opened is not None:
            self._opened.give_up(0)

    @property
    def _second(self) -> VersionedBucket:
        """Opened when it is needed: most commands only look at what is known."""
        if self._opened is None:
            self._opened = self._open_second()
        return self._opened

    def _copying(self, go_on: Callable[[int], None]) -> DocumentCopying:
        return DocumentCopying(
            self._first,
            self._second,
            self._config,
            known=self._known,
            fate_of=self.fate_of,
            go_on=go_on,
        )

    def _now(self) -> datetime:
        return self._clock.now()


def _error_of(error: AppError) -> CopyError:
    return CopyError(error.code, error.message, error.hint)


def _after(seconds: float | None) -> Callable[[], bool]:
    """Whether so many seconds have passed since it was first asked; never, without."""
    until: list[float] = []

    def is_late() -> bool:
        if seconds is None:
            return False
        if not until:
            until.append(time.monotonic() + seconds)
        return time.monotonic() > until[0]

    return is_late
