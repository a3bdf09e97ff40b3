"""What the last restore or undo of this host has replaced: by its record, and by looking.

A run notes what it is about to replace (`Switch`), and when it has looked, what it has replaced
(`RestoreRecord`). Where it ended in between, the look is taken here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from backups.errors import RunNotFound
from backups.host.directory import BackupDirectory
from backups.host.run_log import RunLog
from backups.host.state import HostState
from backups.model import Source
from backups.sources.links import real_source
from backups.sources.quarantine.exchange import forget_exchange
from backups.sources.switched import was_replaced
from backups.vocabulary.replaced import Replaced, RestoreRecord, Switch
from shared.errors import AppError


@dataclass(frozen=True, kw_only=True)
class RestoreHistory:
    """Answers from the host's facts, the run log and the files; raises `DatabaseError`."""

    sources: Sequence[Source]
    busy_timeout: float
    directory: BackupDirectory
    facts: HostState
    run_log: RunLog

    def last_record(self) -> RestoreRecord | None:
        """What the newest restore or undo has replaced; an undo owes until its run has succeeded.

        A run that dies after its last switch is not recorded as a success: the same command
        again must finish that undo, and not undo it.
        """
        switch = self.facts.switch()
        was_replaced = switch is not None and self._was_replaced(switch)
        record = switch.record if switch and was_replaced else self.facts.last_restore()
        if record is not None and record.owed and self.has_succeeded(record.run_id):
            return replace(record, owed=(), back=())
        return record

    def settle(self) -> Switch | None:
        """Look whether a run that has ended replaced what it was about to replace.

        Call it with the run lease held. Returns what nobody can see any more.
        """
        switch = self.facts.switch()
        if switch is None:
            return None
        was_replaced = self._was_replaced(switch)
        if was_replaced is None:
            return switch
        if not was_replaced and switch.put_aside.kind == "quarantine":
            self._forget_links(switch.put_aside)
        self.facts.end_switch(switch.record if was_replaced else None)
        return None

    def settle_if_free(self) -> None:
        """Settle, if no run is in progress: before the app changes what there is to see."""
        with suppress(AppError):
            held = self.directory.run_lease.try_acquire()
            if held is not None:
                try:
                    self.settle()
                finally:
                    held.release()

    def unseen(self) -> Switch | None:
        """What a run was about to replace, if nobody can see whether it has."""
        switch = self.facts.switch()
        return switch if switch and self._was_replaced(switch) is None else None

    def has_succeeded(self, run_id: str) -> bool:
        """Whether a run has; also when nothing is known of it that would have to be finished."""
        try:
            return self.run_log.get(run_id).status == "succeeded"
        except RunNotFound:
            return True

    def _was_replaced(self, switch: Switch) -> bool | None:
        source = self._source(switch.put_aside.source)
        return was_replaced(source, switch, self.busy_timeout) if source else None

    def _source(self, name: str) -> Source | None:
        return next((real_source(one) for one in self.sources if one.name == name), None)

    def _forget_links(self, quarantine: Replaced) -> None:
        """Remove a quarantine into which nothing was moved, but links."""
        source, folder = self._source(quarantine.source), quarantine.path
        if source is not None and folder is not None:
            with suppress(OSError):  # whatever else is in it stays
                forget_exchange(source.path, folder)

    def unfinished(self, set_id: str) -> tuple[Replaced, ...]:
        """What the run that this restore finishes had put aside, if the last one did not end.

        Undo must bring back what was there before that run, not what it left half done.
        """
        last = self.last_record()
        if last is None or last.set_id != set_id or not last.exact:
            return ()
        if last.owed:  # an undo that did not end: the restore before it counts
            return last.owed
        return () if self.has_succeeded(last.run_id) else last.replaced
