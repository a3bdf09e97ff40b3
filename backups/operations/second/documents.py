"""The application's documents in the second place: copying them, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from backups.errors import RunInterrupted
from backups.host.remembered.second import SecondRecord
from backups.sets.second.documents import CopiedDocuments, DocumentCopying, IsOver
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

    `is_over` is set by who knows it: see `DocumentCopying`. Whoever calls holds the lease of the
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
        self.is_over: IsOver | None = None

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
        until = None if seconds is None else time.monotonic() + seconds
        found: CopiedDocuments | None = None
        try:
            # Without versions an overwritten document would be gone, and one that is locked for
            # days could not be overwritten.
            if self._second.versioning() != "Enabled":
                state = replace(before, at=self._now(), versioned=False, error=None)
            else:
                found = self._copying(go_on).bring(
                    lambda: until is not None and time.monotonic() > until
                )
                state = self._state_of(found, before)
        except RunInterrupted:
            raise
        except AppError as error:
            since = before.behind_since or before.complete_at
            state = replace(before, at=self._now(), error=_error_of(error), behind_since=since)
        self._record.note_documents(state, self._location)
        return found

    def _state_of(self, found: CopiedDocuments, before: DocumentsState) -> DocumentsState:
        now = self._now()
        return DocumentsState(
            at=now,
            complete_at=before.complete_at if found.waiting > found.too_large else now,
            behind_since=found.behind_since,
            documents=found.documents,
            waiting=found.waiting,
            too_large=found.too_large,
            # What was to be deleted, only the app knows.
            gone=found.gone if self.is_over is not None else before.gone,
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
            is_over=self.is_over,
            go_on=go_on,
        )

    def _now(self) -> datetime:
        return self._clock.now()


def _error_of(error: AppError) -> CopyError:
    return CopyError(error.code, error.message, error.hint)
