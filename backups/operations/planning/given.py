"""One restore of what a person has given; what it says is in terms of that."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from backups.decisions.marks import only_option
from backups.decisions.restore_plan import RestoreItem, RestorePlan
from backups.errors import FileUnusable, NoRestorePoint, SetNotFound
from backups.format.chain_keys import parse_point_id
from backups.model import BackupSet, Finding, ProgressSink, RunError
from backups.operations.own_sets import LATEST
from backups.operations.planning.detail import PlanDetail
from backups.operations.restore import Restore
from backups.runs.run import StartedRun, ignore_progress
from backups.sets.hand.folder import Layout
from shared.clock import format_utc
from shared.errors import AppError

_LINE = re.compile(
    r"\./bot backups (?P<verb>restore|verify) "
    r"(?P<id>\d{8}T\d{6}Z(?:\.\d+)?|legacy-\d{4}-\d{2}-\d{2})(?P<only> --only \S+)?"
)

_MOST_NAMED = 5

_Told = TypeVar("_Told", Finding, RunError)


@dataclass(frozen=True)
class GivenRestore:
    """One restore, from the store or from files in hand.

    `chooser` plans it, `actor` does it; they differ only in which catalogue they know. `options`
    are what each command for the same restore needs again.
    """

    chooser: Restore
    actor: Restore
    detail: PlanDetail
    options: str = ""
    only: str | None = None
    at: datetime | None = None
    path: Path | None = None
    layout: Layout | None = None
    exposed: tuple[Finding, ...] = ()

    def plan(
        self,
        target: str,
        *,
        in_place: bool,
        accept_unsigned: bool,
        compares: bool,
    ) -> RestorePlan:
        """See `Restore.plan`, with its detail. Of files in hand `latest` is the newest good set,
        or where there is none, the newest of any kind: a person has named the files.

        Raises also `FileUnusable` where an object that the set needs is not in hand.
        """
        try:
            plan = self._plan(target, in_place=in_place, accept_unsigned=accept_unsigned)
        except AppError as error:
            error.hint = self._retyped(error.hint)
            raise
        plan = self.detail.of(plan, compares=compares, fetches=True)
        if not self.options:
            return plan
        return replace(
            plan,
            named=self._named(plan.backup_set.id),
            from_path=self.path,
            has_copies=plan.has_copies and self.path is None,
            items=tuple(self._item(one) for one in plan.items),
            blockers=tuple(self._told(one) for one in plan.blockers),
            in_place=tuple(self._told(one) for one in plan.in_place),
            warnings=tuple(self._told(one) for one in (*plan.warnings, *self.exposed)),
        )

    def _plan(self, target: str, *, in_place: bool, accept_unsigned: bool) -> RestorePlan:
        at, only = self.at, self.only
        if self.layout is not None:
            target, at = self._chosen(target), None
        plan = self.chooser.plan(
            target, at=at, only=only, in_place=in_place, accept_unsigned=accept_unsigned
        )
        if self.layout is not None:
            self._refuse_missing(plan.backup_set, self.layout)
        return plan

    def begin(
        self,
        plan: RestorePlan,
        *,
        to: Path | None,
        check: bool | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """See `Restore.begin`."""
        return self.actor.begin(plan, to=to, check=check, progress=progress)

    def _told(self, one: _Told) -> _Told:
        """A finding or error in terms of what was given: files by their own names, and commands
        for the same files."""
        return replace(one, message=self._files_named(one.message), hint=self._retyped(one.hint))

    def _retyped(self, hint: str) -> str:
        """A hint whose commands have what was given, too; a file in hand is not verified."""

        is_loose = self.layout is not None and self.layout.is_loose
        only = only_option(self.only) if is_loose else ""  # nothing else may say what a file is

        def line(found: re.Match[str]) -> str:
            named = self._named(found["id"]) + (only if found["only"] is None else found["only"])
            if found["verb"] == "restore":
                return named
            return found[0] if self.path is None else f"{named} --to DIR"

        typed = _LINE.sub(line, self._files_named(hint))
        return typed if self.path is None else typed.replace("Prove it first", "Look at it first")

    def explained(self, error: RunError) -> RunError:
        """The same of what ended a run; it names the files in hand."""
        told = self._told(error)
        if self.path is None or str(self.path) in told.message:
            return told
        return replace(told, message=f"{self.path}: {told.message}")

    def _named(self, set_id: str) -> str:
        if self.layout is None or not self.layout.is_loose:
            return f"./bot backups restore {set_id}{self.options}"
        at = f" --at {format_utc(self.at)}" if self.at else ""
        return f"./bot backups restore{self.options}{at}"

    def _item(self, item: RestoreItem) -> RestoreItem:
        file = self.layout.files.get(item.stored.key) if self.layout else None
        found = item.comparison
        if found is not None:
            found = replace(found, why_not=self._retyped(found.why_not))
        return replace(item, file=str(file.given) if file else "", comparison=found)

    def _files_named(self, text: str) -> str:
        """A text of the store's, which names objects by their keys."""
        for key, file in (self.layout.files if self.layout else {}).items():
            if key in text:
                return text.replace(key, str(file.given))
        return text

    def _chosen(self, target: str) -> str:
        catalogue = self.chooser.catalogue
        catalogue.refresh()
        if target != LATEST:
            self._refuse_unknown(target)
            return target
        try:
            return self.chooser.newest(self.at, ask=True).id
        except NoRestorePoint:
            at = self.at
            found = [one for one in catalogue.sets() if at is None or one.created_at <= at]
            for one in found:
                if one.kind != "legacy":
                    return one.id
            for set_id in catalogue.unread.sets():
                catalogue.get(set_id)  # says why; its objects alone are no group of the old scripts
            if found:
                return found[0].id
            when = f" of {format_utc(self.at)} or before" if self.at else ""
            raise NoRestorePoint(
                f"{self.path} has no restore point{when}",
                "Name another file or folder, or an earlier or later time.",
            ) from None

    def _refuse_unknown(self, target: str) -> None:
        """Raise `SetNotFound` with the ids that there are; of a point its chain says more."""
        catalogue = self.chooser.catalogue
        if parse_point_id(target) is not None:
            return
        try:
            catalogue.get(target)
        except SetNotFound:
            ids = ", ".join(one.id for one in islice(catalogue.sets(), _MOST_NAMED))
            raise SetNotFound(
                f"{self.path} has no restore point {target!r}",
                f"The newest that it has: {ids or 'none'}.",
            ) from None

    def _refuse_missing(self, chosen: BackupSet, layout: Layout) -> None:
        for one in chosen.objects:
            if self.only in (None, one.source) and one.key not in layout.files:
                raise FileUnusable(
                    f"{self.path} has the manifest of set {chosen.id}, but not {one.key}",
                    "Put that object into the folder, under its name, or choose a source that is "
                    "there: --only SOURCE.",
                )
