"""From which of two places a restore comes, where nobody has named one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backups.errors import SetDeleted
from backups.format.chain_keys import set_of
from backups.model import BackupSet
from backups.operations.own_sets import LATEST
from backups.operations.restore import Restore
from backups.sets.catalogue import Catalogue
from shared.clock import format_utc
from shared.errors import AppError, StoreError


@dataclass(frozen=True)
class Place:
    """What is in a place, and what a restore from it would choose."""

    catalogue: Catalogue
    restore: Restore

    def chosen(self, asked: str, at: datetime | None) -> BackupSet | None:
        """What `asked` (an id or `latest`) and `at` mean here; None where planning refuses it."""
        try:
            if asked != LATEST:
                return self.catalogue.get(asked)
            return self.restore.newest(at, ask=False)
        except StoreError:
            raise
        except AppError:
            return None

    def passes_over(self, found: BackupSet) -> bool:
        """Whether this place has a point whole, or knows that a person has deleted it."""
        full = set_of(found.point.chain) if found.point is not None else found.id
        for one in {full, found.id}:
            try:
                known = self.catalogue.get(one)
            except SetDeleted:
                return True
            except AppError:
                continue
            if one == found.id and not known.hollow:
                return True
        return False


def why_second(first: Place, second: Place, asked: str, at: datetime | None) -> str | None:
    """Why a restore takes the second place; None where it takes the first.

    What the first has whole, and does not choose, is no reason: a restore has set it aside, or a
    person has deleted it, and the copies learn of that later. Raises `StoreError` of the second.
    """
    here, away = None, ""
    try:
        first.catalogue.refresh()
        here = first.chosen(asked, at)
    except StoreError as error:
        away = f"{error.message} [{error.code}]"
    second.catalogue.refresh()
    there = second.chosen(asked, at)
    if there is None or (here is not None and here.holds_until >= there.holds_until):
        return None
    if away:
        return away
    if first.passes_over(there):
        return None
    if here is None:
        return "the store has no such restore point"
    return (
        f"its newest point is from {format_utc(there.holds_until)}, that of the store from "
        f"{format_utc(here.holds_until)}"
    )
