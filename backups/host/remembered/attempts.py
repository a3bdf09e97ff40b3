"""Whether a backup has failed that none has made up for: by the run log, or by that of the host
that has made the last one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from backups.host.machine import this_host
from backups.host.remembered.common import CommonFacts
from backups.host.remembered.record import document
from backups.host.run_log import RunLog
from backups.model import Run
from backups.vocabulary.outcome import Outcome
from shared.databases.engines.database import Connection

# More runs of one source than anybody makes between two complete ones.
_RUNS_LOOKED_AT = 200
_OUTCOME = document("last_outcome", Outcome)
# What the other hosts do not know: their database did not answer.
_UNTOLD = document("untold_outcome", Outcome)
NAMES = (_OUTCOME.name,)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Attempts:
    """The backups that are over. Every method raises `DatabaseError`.

    What begins after `end_of_present` was begun by a wrong clock. `was_complete` says it of a run
    that has succeeded: one source alone makes up for nothing.
    """

    def __init__(
        self,
        run_log: RunLog,
        common: CommonFacts,
        end_of_present: Callable[[], datetime],
        was_complete: Callable[[Run], bool],
    ) -> None:
        self._run_log = run_log
        self._common = common
        self._end_of_present = end_of_present
        self._was_complete = was_complete

    def unresolved_failure(self) -> Run | None:
        """The newest backup run that failed, if no complete backup has followed it.

        A run of one source (`run --only`) or one that was interrupted does not make up for it.
        """
        outcome = self._of_all_hosts()
        if outcome is None:
            newest = self._newest()
            return newest if newest is not None and newest.status == "failed" else None
        failed = outcome.failed
        if failed is None or failed.error is None or outcome.host == this_host():
            return failed
        told = f"{failed.error.message} (on the host {outcome.host})"
        return replace(failed, error=replace(failed.error, message=told))

    def are_known(self) -> bool:
        """Whether a backup is known that failed, or a complete one."""
        return self._of_all_hosts() is not None or self._newest() is not None

    def note(self, run: Run) -> None:
        """Let the other hosts know of a backup run of this one that is over."""
        if not self._common.is_shared or not self._says_something(run):
            return
        at, failed = run.finished_at or run.started_at, run if run.status == "failed" else None
        outcome = Outcome(at, this_host(), run.started_at, failed)
        self._common.write_own(lambda own: _UNTOLD.write(own, outcome))
        self.tell()

    def tell(self) -> None:
        """Let the other hosts know what they could not be told when it happened."""
        outcome = self._common.read_own(_UNTOLD.read) if self._common.is_shared else None
        if outcome is None:
            return
        self._common.write(partial(self._write_if_newer, outcome))
        self._common.write_own(_UNTOLD.forget)

    def _write_if_newer(self, outcome: Outcome, connection: Connection) -> None:
        known = _OUTCOME.read(connection)
        if known is None or self._newer(known, outcome) is outcome:
            _OUTCOME.write(connection, outcome)

    def _newer(self, one: Outcome, other: Outcome) -> Outcome:
        """Of two the one whose run began later; one from the future was begun by a wrong clock."""
        latest = self._end_of_present()
        begun = [found.begun if found.begun <= latest else _LONG_AGO for found in (one, other)]
        return one if begun[0] > begun[1] else other

    def _of_all_hosts(self) -> Outcome | None:
        """What the hosts know in common; None where this one is alone, or none knows anything."""
        if not self._common.is_shared:
            return None
        told, untold = self._common.read(_OUTCOME.read), self._common.read_own(_UNTOLD.read)
        if told is None or untold is None:
            return told or untold
        return self._newer(told, untold)

    def _newest(self) -> Run | None:
        """The newest run of this host that failed, or was complete."""
        over = self._run_log.backups_that_are_over(_RUNS_LOOKED_AT)
        return next((run for run in over if self._says_something(run)), None)

    def _says_something(self, run: Run) -> bool:
        return run.status == "failed" or (run.status == "succeeded" and self._was_complete(run))
