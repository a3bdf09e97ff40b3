"""The second place of an installation: what it has, copying to it, and comparing the two."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from backups.errors import BackupError, CopyInProgress, RunInterrupted, SetDeleted
from backups.host.state import HostState
from backups.operations.installation import Installation
from backups.operations.second.documents import SECONDS_AT_ONCE, SecondDocuments
from backups.sets.catalogue import Catalogue
from backups.sets.second.copying import Copying
from backups.sets.second.documents import CopiedDocuments
from backups.sets.second.wanted import Copied
from backups.vocabulary.second import (
    CopyError,
    CopyState,
    Differences,
    DocumentsState,
    SecondConfig,
)
from shared.databases.sqlite import Database
from shared.errors import AppError, StoreError
from shared.process.lasting_work import beat, has_to_end
from shared.store.append_only import AppendOnlyStore

_log = logging.getLogger("backups.copy")

_BYTES_OF_MBIT = 125_000
_HOUR = timedelta(hours=1)
_LOOK_SECONDS = 0.2


class Pace:
    """Called with the bytes that went: waits so that no more than `mbit` Mbit/s go (0: no limit).

    Raises `RunInterrupted` once `stopping` is set, or the turn is over in which this is called: of
    a copying that a person asked for it is none.
    """

    def __init__(self, mbit: int, stopping: threading.Event) -> None:
        self._seconds_a_byte = 1 / (mbit * _BYTES_OF_MBIT) if mbit else 0.0
        self._stopping = stopping
        self._free_at = 0.0

    def __call__(self, size: int) -> None:
        """So many bytes went."""
        beat()
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size * self._seconds_a_byte
        while not has_to_end():
            left = self._free_at - time.monotonic()
            if self._stopping.wait(min(left, _LOOK_SECONDS)):
                raise RunInterrupted
            if left <= _LOOK_SECONDS:
                return
        raise RunInterrupted.as_leader()


class SecondPlace:
    """Copies what `first` has published to `store`; `place_known` is what this host knows of that.

    `known` is what it knows of the first place. Copying takes neither the lease of the runs nor
    their time: a run and a restore go on beside it.
    """

    def __init__(
        self,
        config: SecondConfig,
        store: AppendOnlyStore,
        *,
        place_known: Database,
        first: Installation,
        known: Database,
        facts: HostState,
    ) -> None:
        self.config = config
        self.store = store
        self.catalogue = Catalogue(
            place_known,
            store,
            first.config.prefix,
            first.clock,
            first.ours,
            marks=first.config.marks,
        )
        self._place_known = place_known
        self._first = first
        self._known = known
        self._facts = facts
        self._stopping = threading.Event()
        self.documents: SecondDocuments | None = None

    def stop(self) -> None:
        """End a copying at the next piece, and requests that hang."""
        self._stopping.set()
        self.store.bucket.give_up(0)
        if self.documents is not None:
            self.documents.give_up()

    def state(self) -> CopyState | None:
        """What the last copying found."""
        return self._facts.second.state(self.config.location)

    def copy(self) -> tuple[CopyState, Copied]:
        """Copy what the second place lacks, and note what came of it.

        Raises `CopyInProgress` while another process copies, `RunInterrupted`, and what ended it:
        `StoreError` of either place, `DatabaseError`, `DiskFull`.
        """
        with self._lease():
            before = self.state() or CopyState(self._now())
            try:
                return self._copy(before)
            except RunInterrupted:
                raise
            except AppError as error:
                since = before.behind_since or before.complete_at
                failed = _error_of(error)
                self._note(replace(before, at=self._now(), error=failed, behind_since=since))
                raise

    def _copy(self, before: CopyState) -> tuple[CopyState, Copied]:
        self._facts.second.begin(self.config.location, self._now())
        self._first.catalogue.refresh()
        found = self._copying().bring()
        self.catalogue.refresh()
        disturbed = self.store.disturbed
        newest = self.catalogue.newest_protecting(self._first.ours())
        now = self._now()
        state = CopyState(
            at=now,
            complete_at=before.complete_at if found.waiting else now,
            behind_since=found.behind_since,
            waiting=len(found.waiting),
            refused=len(found.refused),
            hidden=len(disturbed.hidden & found.keys),
            covered=len(disturbed.covered & found.keys),
            points=self.catalogue.count(),
            newest=newest.id if newest else None,
            error=_error_of(found.error) if found.error is not None else None,
        )
        self._note(state)
        if found.copied:
            _log.info("%d objects were copied to %s", found.copied, self.config.location)
        return state, found

    def documents_state(self) -> DocumentsState | None:
        """What the last copying of documents found."""
        return self.documents.state() if self.documents is not None else None

    def copy_documents(self, seconds: float | None = SECONDS_AT_ONCE) -> CopiedDocuments | None:
        """Copy the application's documents, for so long; None where there is nothing to copy.

        What ended it is in their state. Raises `CopyInProgress`, `RunInterrupted` and
        `DatabaseError`.
        """
        if self.documents is None:
            return None
        with self._lease():
            return self.documents.copy(Pace(self.config.mbit, self._stopping), seconds)

    def note_deletable(self, deletable: bool) -> None:
        """Remember whether the key of the second place could delete there."""
        self._facts.second.begin(self.config.location, self._now())
        self._facts.second.note_deletable(deletable, self._now())

    def bring_back(self, sets: Collection[str]) -> None:
        """Copy what the second place took while the first was away.

        Raises `CopyInProgress`, and `StoreError` also where one of `sets` did not come.
        """
        with self._lease():
            self.catalogue.refresh()
            Copying(
                self.store,
                self._first.store,
                catalogue=self.catalogue,
                known=self._place_known,
                marks=self._first.config.marks,
                scratch=self._first.directory.path / "copying",
                only=sets,
                go_on=Pace(self.config.mbit, self._stopping),
            ).bring()
            self._first.catalogue.refresh()
        lacking = [one for one in sets if not self._is_back(one)]
        if lacking:
            raise StoreError(
                f"{', '.join(lacking)} did not come back from {self.config.location}",
                "The log of the app says why. They are there: ./bot backups list --place second",
            )

    def lacking_in_first(self, set_id: str) -> tuple[str, ...]:
        """What a host that was restored from here inherits: the sets of the line of `set_id`, up
        to it, that are newer than all that the first place has of that line.

        What the first has pruned is older. Where it has nothing of the line, that set alone.
        """
        self.catalogue.refresh()
        self._first.catalogue.refresh()
        try:
            restored = self.catalogue.get(set_id)
        except (BackupError, StoreError):
            return ()  # a point of a chain: its set is in both, or was never here
        if restored.sequence is None or self._first.catalogue.has(set_id):
            return ()
        newest = max(
            (
                one.sequence
                for one in self._first.catalogue.sets()
                if one.sequence is not None and one.instance == restored.instance
            ),
            default=restored.sequence - 1,
        )
        return tuple(
            one.id
            for one in self.catalogue.sets()
            if one.mark == "valid"
            and one.instance == restored.instance
            and one.sequence is not None
            and newest < one.sequence <= restored.sequence
        )

    def _is_back(self, set_id: str) -> bool:
        """Whether the first place has a set that is what it was; or a person has deleted it."""
        try:
            found = self._first.catalogue.get(set_id)
        except SetDeleted:
            return True
        except BackupError:
            return False
        return found.mark == "valid" and not found.hollow

    def compare(self) -> Differences:
        """Compare both places by listing and by SHA-256: reads all of the second one."""
        self._first.catalogue.refresh()
        return self._copying().compare()

    def compare_documents(self) -> Differences:
        """The same of the application's documents."""
        if self.documents is None:
            return Differences(0, (), ())
        return self.documents.compare(Pace(self.config.mbit, self._stopping))

    def _copying(self) -> Copying:
        return Copying(
            self._first.store,
            self.store,
            catalogue=self._first.catalogue,
            known=self._known,
            marks=self._first.config.marks,
            scratch=self._first.directory.path / "copying",
            with_increments=self.config.every < _HOUR,
            place=self._place_known,
            go_on=Pace(self.config.mbit, self._stopping),
        )

    def _note(self, state: CopyState) -> None:
        self._facts.second.note(state)

    @contextmanager
    def _lease(self) -> Iterator[None]:
        held = self._first.directory.copy_lease.try_acquire()
        if held is None:
            raise CopyInProgress(
                "another process copies to the second place now",
                "Wait until it has ended; the app copies by itself.",
            )
        try:
            yield
        finally:
            held.release()

    def _now(self) -> datetime:
        return self._first.clock.now()


def _error_of(error: AppError) -> CopyError:
    return CopyError(error.code, error.message, error.hint)
