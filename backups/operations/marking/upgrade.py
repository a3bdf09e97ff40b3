"""Marking what the version before had made, once: exactly the sets that this host's log names.

    which sets did succeeded runs make -> is the manifest the one recorded then -> mark it

It is noted on this host without the network, before anything is asked of it, so that these sets
are valid here from the start. What was planted later is never marked for this reason.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime

from backups.errors import ManifestInvalid
from backups.host import catalogues
from backups.host.state import HostState
from backups.model import Run
from backups.operations.installation import Installation
from backups.operations.marking.later_marks import LaterMarks
from shared.databases.sqlite import Database

_log = logging.getLogger("backups.run")


class UpgradeMarks:
    """Marks the sets of the version before. Raises `DatabaseError`."""

    def __init__(
        self,
        installation: Installation,
        facts: HostState,
        known: Database,
        later_marks: LaterMarks,
    ) -> None:
        self._known = known
        self._marks = installation.config.marks
        self._token_keys = installation.config.token_keys
        self._catalogue = installation.catalogue
        self._run_log = installation.run_log
        self._clock = installation.clock
        self._facts = facts
        self._later_marks = later_marks

    def note(self) -> None:
        """Mark them on this host, if there are keys and this was not done before; no network."""
        if not self._marks.keys:
            return
        now = self._clock.now().replace(microsecond=0)
        if self._facts.marking_since() is None:
            self._facts.note_marking_since(now)
        if catalogues.upgrade_is_marked(self._known):
            return
        runs = self._run_log.that_made_sets()
        made = (
            set_id
            for set_id, at in catalogues.recorded_at(self._known).items()
            if set_id in runs and _went_on(runs[set_id], at)
        )
        found = {set_id: some for set_id in made if (some := self._later_marks.unsigned(set_id))}
        if found and self._keys_are_others(found):
            return  # not marked until a process has the keys of the app
        self._later_marks.note(found)
        catalogues.note_upgrade_marked(self._known, now)
        if found:
            _log.info("%d sets of the version before are marked on this host", len(found))

    def _keys_are_others(self, found: Collection[str]) -> bool:
        """Whether the key of the newest set is not here: no key to mark the sets of this host with.

        With the right key back, a mark of another one could not be checked.
        """
        for set_id in sorted(found, reverse=True):
            with suppress(ManifestInvalid):
                key = self._catalogue.get(set_id).token_key
                if key is not None and key not in self._token_keys:
                    _log.warning(
                        "the sets of the version before are not marked, because their key %s is "
                        "not in TOKEN_ENCRYPTION_KEYS: add it, after the first",
                        key,
                    )
                if key is not None:
                    return key not in self._token_keys
        return False


def _went_on(run: Run, at: datetime) -> bool:
    """Whether it is the run that recorded the manifest: what was read later may be another text."""
    return run.finished_at is not None and run.started_at <= at <= run.finished_at
