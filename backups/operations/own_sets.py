"""Which sets count for what, by the records of this host: the newest, the owed, the doubtful."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from backups.decisions.due import STORE_FAILURES, may_try, owed_since
from backups.decisions.retention import RetentionFacts, RetentionPlan, plan_retention
from backups.errors import NoRestorePoint
from backups.host.state import HostState
from backups.model import BackupSet, Trigger
from backups.operations.installation import Installation
from shared.clock import format_utc
from shared.errors import StoreError


class OwnSets:
    """Answers from the catalogue, the run log and the host's facts; raises `DatabaseError`."""

    def __init__(self, installation: Installation, facts: HostState) -> None:
        self._config = installation.config
        self._catalogue = installation.catalogue
        self._run_log = installation.run_log
        self._directory = installation.directory
        self._clock = installation.clock
        self._facts = facts

    def refresh(self) -> StoreError | None:
        """Ask the store what is new; the error when the store cannot be asked."""
        try:
            self._catalogue.refresh()
        except StoreError as error:
            return error
        return None

    def ours(self) -> frozenset[str]:
        """The instances whose sets are this installation's: its own, and those it succeeds."""
        return self._facts.predecessors() | {self._directory.instance()}

    def latest(self) -> BackupSet | None:
        """What `latest` means now."""
        return self._catalogue.latest(self.ours())

    def required_latest(self) -> BackupSet:
        """What `latest` means now; raises `NoRestorePoint` when it means nothing."""
        newest = self.latest()
        if newest is None:
            raise NoRestorePoint(
                "there is no complete, proven restore point", "Make one: python -m backups run"
            )
        return newest

    def is_owed(self, trigger: Trigger, *, at_once: bool = False) -> bool:
        """Whether a backup should be made now, and may be tried; with `at_once` without delay."""
        now = self._clock.now()
        due = owed_since(self._config.schedule, self._newest_lasting(), now)
        if due is None:
            return False
        failures = self._run_log.automatic_failures_since(due)
        return trigger == "scheduled" or at_once or may_try(failures, now)

    def waits_for_store(self) -> bool:
        """Whether a backup is owed that may not be tried yet, because the store failed the last."""
        last = self._run_log.last("backup", "succeeded", "failed", "interrupted")
        return (
            last is not None
            and last.error is not None
            and last.error.code in STORE_FAILURES
            and self.is_owed("catch-up", at_once=True)
            and not self.is_owed("catch-up")
        )

    def _newest_lasting(self) -> BackupSet | None:
        """The newest complete, proven set that an instant of the schedule may count as its own.

        A suspect one counts: making it again each minute would not make it better. A change
        set does not: it is gone after a day, and the day's set would be missing for good.
        """
        return self._newest(lambda found: found.proof != "none" and found.trigger != "change")

    def newest_made(self) -> BackupSet | None:
        """The newest complete set of this installation, whatever is thought of it."""
        return self._newest(lambda _: True)

    def _newest(self, counts: Callable[[BackupSet], bool]) -> BackupSet | None:
        ours = self.ours()
        return next(
            (
                found
                for found in self._catalogue.sets()
                if found.kind == "set"
                and found.complete
                and found.instance in ours
                and counts(found)
            ),
            None,
        )

    def other_writer(self, now: datetime) -> BackupSet | None:
        """The newest set of another installation, younger than the last two due instants."""
        ours = self.ours()
        last = self._config.schedule.last_until(now)
        one_before = self._config.schedule.last_until(last - timedelta(microseconds=1))
        for found in self._catalogue.sets():
            if found.created_at < one_before:
                return None
            if found.kind == "set" and found.instance not in ours:
                return found
        return None

    def missing_sources(self) -> list[str]:
        """The sources whose file is not there."""
        return [source.name for source in self._config.sources if not _is_there(source.path)]

    def started_empty(self) -> dict[str, datetime]:
        """Sources that were begun anew, and when, although there are older restore points."""
        return {
            source: at
            for source, at in self._facts.started_empty().items()
            if any(found.created_at < at for found in self._catalogue.sets())
        }

    def suspicions(self) -> tuple[str, ...]:
        """Why what is about to be backed up may not be what should be protected.

        Raises `StoreError`: with a cause for suspicion, the store is asked for what is older.
        """
        if not self._facts.started_empty():
            return ()
        self._catalogue.refresh()
        return tuple(
            f"{source} was missing at {format_utc(at)}, and created empty beside older "
            "restore points"
            for source, at in self.started_empty().items()
        )

    def frozen(self) -> str | None:
        """Why nothing may be removed now, or None."""
        last = self._run_log.last("backup", "succeeded", "failed", "interrupted")
        if last is not None and last.status == "failed":
            return f"the newest run, {last.id}, failed"
        made = self.newest_made()
        if made is not None and made.suspect:
            return f"the newest set, {made.id}, is suspect"
        return None

    def plan_prune(self) -> RetentionPlan:
        """What retention would keep and drop now, with reasons."""
        facts = RetentionFacts(
            now=self._clock.now(),
            ours=self.ours(),
            drilled=self._catalogue.newest_drilled(),
            frozen=self.frozen(),
        )
        return plan_retention(self._catalogue.points(), self._config.retention, facts)


def _is_there(path: Path) -> bool:
    """Whether a file is there; one that this user cannot reach may be: the run names it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
