"""Setting aside what a restore has passed over, so that `latest` means it nowhere.

Beside the manifest of each set that is newer than the restored one lies a small note,
`aside-<time>.json`. It is noted on this host first, all at once, and then stored, several at a
time. What cannot be stored in a moment is owed, and stored after the next backup. Nothing is
deleted, and an undo stores newer notes that take the others back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from datetime import timedelta

from backups.decisions import order
from backups.format import manifest, naming
from backups.format.chain_keys import set_of
from backups.format.manifest import Aside
from backups.format.mark import Marks
from backups.host.directory import BackupDirectory
from backups.host.state import HostState
from backups.model import BackupSet, Progress, ProgressSink
from backups.operations.own_sets import OwnSets
from backups.runs.parallel import in_parallel
from backups.runs.run import Recorder, ignore_progress
from backups.sets.catalogue import Catalogue
from backups.sets.puts import put_document
from backups.vocabulary.replaced import Undone
from shared.clock import Clock
from shared.errors import AppError, ObjectExists
from shared.store.object_store import ObjectStore

_log = logging.getLogger("backups.run")

# A restore waits no longer for the notes; they are small, so that many at a time cost nothing.
_MOST_SECONDS = 30.0
_AT_A_TIME = 8


class Asides:
    """Sets aside what restores pass over. Raises `DatabaseError`; a store that fails is logged."""

    def __init__(
        self,
        prefix: str,
        store: ObjectStore,
        *,
        marks: Marks,
        directory: BackupDirectory,
        catalogue: Catalogue,
        own_sets: OwnSets,
        facts: HostState,
        clock: Clock,
    ) -> None:
        self._prefix = prefix
        self._store = store
        self._marks = marks
        self._directory = directory
        self._catalogue = catalogue
        self._own_sets = own_sets
        self._facts = facts
        self._clock = clock

    def refresh(self) -> None:
        """Ask the store which sets there are: what is not known here cannot be set aside."""
        error = self._own_sets.refresh()
        if error is not None:
            _log.warning("sets that this host does not know are not set aside: %s", error.message)

    def pass_over(self, recorder: Recorder, restored: BackupSet) -> None:
        """Set aside each set of this installation that is newer than the restored point.

        Of a point of a chain these are the sets made after it: its full, and what was made while
        the chain went on before it, are older. Points of chains are set aside by the chain's end.
        That is the follower's to do: until it has, this host passes them over by itself. What was
        restored from files in hand may be no set of the store: its time counts then.
        """
        self._facts.pass_over_points(restored.sequence)
        ours = self._own_sets.ours()
        full = set_of(restored.point.chain) if restored.point else restored.id
        has_place = restored.point is None and self._catalogue.has(full)
        later: list[str] = []
        for one in self._catalogue.sets():
            if one.id == full:
                self._note(recorder, restored.id, dict.fromkeys(later, True))
                return
            is_later = has_place or _is_newer(one, restored, ours)
            if one.kind == "set" and one.instance in ours and one.set_aside is None and is_later:
                later.append(one.id)
        self._note(recorder, restored.id, dict.fromkeys(later, True))

    def take_back(self, recorder: Recorder, undone: Undone, restored: str) -> None:
        """For the undo of a restore, or of an undo: the reverse of what it has set aside.

        What was made since then has what the undo replaces, and is set aside.
        """
        ours = self._own_sets.ours()
        notes = {
            set_id: not note.aside
            for set_id, note in self._catalogue.asides().items()
            if note.by == undone.run_id
        }
        for one in self._catalogue.sets():
            made_since = one.created_at > undone.at and one.instance in ours
            if one.kind == "set" and made_since and one.set_aside is None:
                notes.setdefault(one.id, True)
        self._note(recorder, restored, notes)

    def finish(self, progress: ProgressSink = ignore_progress) -> None:
        """Store what is owed; what still cannot be stored stays owed, and is logged."""
        owed = self._facts.owed_asides()
        if not owed:
            return
        until = time.monotonic() + _MOST_SECONDS
        failures: list[AppError] = []

        def store(one: tuple[str, str], report: ProgressSink) -> bool:
            report(Progress("keep"))
            if failures or time.monotonic() > until:
                return False
            try:
                self._store_note(*one)
            except AppError as error:
                failures.append(error)
                return False
            return True

        stored = in_parallel(store, owed, progress, workers=_AT_A_TIME)
        left = [one for one, done in zip(owed, stored, strict=True) if not done]
        self._facts.set_owed_asides(left)
        if left:
            _log.warning(
                "%d of %d sets that a restore passed over could not be set aside in the store yet; "
                "the next run will do it%s",
                len(left),
                len(owed),
                f": {failures[0].message}" if failures else "",
            )

    def _note(self, recorder: Recorder, restored: str, notes: Mapping[str, bool]) -> None:
        if notes:
            known = self._catalogue.asides()
            at = self._clock.now().replace(microsecond=0)
            for before in (known[set_id].at for set_id in notes if set_id in known):
                at = max(at, before + timedelta(seconds=1))  # the newest note counts
            name = naming.verdict_name("aside", at)
            documents = {
                set_id: self._marks.sign(
                    naming.document_key(self._prefix, set_id, name),
                    manifest.dump_aside(
                        Aside(manifest.FORMAT, set_id, at, recorder.run.id, restored, aside)
                    ),
                )
                for set_id, aside in notes.items()
            }
            owed = [(set_id, name) for set_id in documents]
            self._facts.set_owed_asides([*self._facts.owed_asides(), *owed])
            self._catalogue.add_verdicts(name, documents)
            _log.info("%d newer sets are set aside for set %s", sum(notes.values()), restored)
        self.finish(recorder.progress)

    def _store_note(self, set_id: str, name: str) -> None:
        document = self._catalogue.verdict(set_id, name)
        if document is None:  # the set is gone
            return
        key = naming.document_key(self._prefix, set_id, name)
        metadata = {"set-id": set_id, "instance": self._directory.instance()}
        try:
            put_document(self._store, key, document, metadata)
        except ObjectExists as error:
            _log.warning("another note is there already: %s", error.message)


def _is_newer(one: BackupSet, than: BackupSet, ours: Collection[str]) -> bool:
    """By number where both are of our line; the numbers of another line say nothing beside ours."""
    if than.instance in ours:
        return order.newer(than, one) is one
    return one.created_at > than.created_at
