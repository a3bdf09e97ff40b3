"""Marking again, with the first key, what this host holds for its own under older keys.

    ask the store -> mark each set again (one object) -> store them -> mark each chain again
    -> and each note that a set was deleted -> say so, marked by that key

Only where the last step is seen does a mark by an older key alone say nothing any more. A command
that is killed before is repeated, and marks what is left.
"""

from __future__ import annotations

from backups.errors import LeaseHeld, RotationUnfinished
from backups.format import naming
from backups.format.mark import sha256_of
from backups.host.state import HostState
from backups.operations.adopt import Adopt
from backups.operations.installation import Installation
from backups.operations.marking.chain_marks import ChainMarks
from backups.operations.marking.deletion_marks import DeletionMarks
from backups.operations.marking.later_marks import LaterMarks
from backups.operations.own_sets import OwnSets
from backups.operations.writers import Writers
from backups.sets.judging import check_marks
from shared.words import counted

_LEASE_WAIT_SECONDS = 30.0


class Rotation:
    """Marks again what is valid here and ours."""

    def __init__(
        self,
        installation: Installation,
        own_sets: OwnSets,
        *,
        adopt: Adopt,
        writers: Writers,
        later_marks: LaterMarks,
        chain_marks: ChainMarks,
        facts: HostState,
    ) -> None:
        self._marks = installation.config.marks
        self._directory = installation.directory
        self._run_log = installation.run_log
        self._catalogue = installation.catalogue
        self._own_sets = own_sets
        self._adopt = adopt
        self._writers = writers
        self._later_marks = later_marks
        self._chain_marks = chain_marks
        self._deletion_marks = DeletionMarks(installation)
        self._facts = facts

    def mark_again(self) -> tuple[int, int]:
        """Mark all of it with the first key, and say so in the store; how many sets, and chains.

        Raises `LeaseHeld`, `StoreError`, and `RotationUnfinished` when not all could be marked.
        """
        held = self._directory.run_lease.try_acquire(_LEASE_WAIT_SECONDS)
        if held is None:
            running = self._run_log.running()
            raise LeaseHeld(running.id if running else None)
        try:
            self._catalogue.refresh()
            self._writers.look()
            older = self._marked_with_older_keys()
            self._later_marks.note(older)
            self._later_marks.finish()
            chains = self._chain_marks.mark_again(self._own_sets.ours())
            self._deletion_marks.mark_again(self._own_sets.ours())
            self._refuse_to_leave_some()
            self._refuse_while_app_has_older_key()
            self._catalogue.note_rotated(self._marks.keys[0].fingerprint)
            self._adopt.say_who_this_is()
        finally:
            held.release()
        return len(older), chains

    def _marked_with_older_keys(self) -> dict[str, dict[str, str]]:
        """The documents of each set of ours that are valid, but not by the first key."""
        ours = self._own_sets.ours()
        marks = self._marks.since_rotation(self._catalogue.rotated())
        first = self._marks.of_first()
        older: dict[str, dict[str, str]] = {}
        for one in self._catalogue.points():
            if one.instance not in ours and not naming.is_legacy_id(one.id):
                continue
            documents = self._later_marks.documents(one.id)
            valid = check_marks(one.id, documents, marks)
            by_first = check_marks(one.id, documents, first)
            named = {
                name: sha256_of(document)
                for name, document in documents.items()
                if valid[name].outcome == "valid" and not name.startswith("mark-")
            }
            if any(by_first[name].outcome != "valid" for name in named):
                older[one.id] = named
        return older

    def _refuse_while_app_has_older_key(self) -> None:
        """What the app made from now on would count for nothing, and could not be marked again."""
        running = self._facts.leader_key() if self._directory.scheduler_lease.holder() else None
        if running not in (None, self._marks.keys[0].fingerprint):
            raise RotationUnfinished(
                f"the running app still marks its sets with key {running}, so older keys count "
                "until it has been restarted",
                "Restart the app with these TOKEN_ENCRYPTION_KEYS, then repeat the command.",
            )

    def _refuse_to_leave_some(self) -> None:
        owed = self._later_marks.owed()
        if owed:
            raise RotationUnfinished(
                f"the store did not take marks with the first key of {counted(len(owed), 'set')}",
                "Repeat the command when the store answers; it marks what is left.",
            )
        ours = self._own_sets.ours()
        absent = sorted(
            {
                one.mark_key or ""
                for one in self._catalogue.sets()
                if one.instance in ours and one.mark == "unknown_key"
            }
        )
        if absent:
            raise RotationUnfinished(
                "some sets of this installation are marked with a key that is not here "
                f"({', '.join(absent)}), and cannot be marked again",
                "Put that key back into TOKEN_ENCRYPTION_KEYS, after the first one, then repeat "
                "the command.",
            )
