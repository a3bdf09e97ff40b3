"""What a person says of sets: that one is good, that missing ones are known, that one is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from backups.alerts.dispatch import Alerts
from backups.errors import NotPinnable
from backups.format.chain import FORMAT, Check
from backups.format.chain_keys import chain_id, check_key, set_of
from backups.format.mark import Marks
from backups.format.pin import MOST_LABEL
from backups.host.state import HostState
from backups.model import BackupSet, MissingPoint
from backups.operations.own_sets import OwnSets
from backups.sets.catalogue import Catalogue
from backups.sets.chains import table
from backups.sets.chains.check_puts import put_check
from backups.sets.chains.checks import known_verdicts
from backups.sets.chains.objects_table import objects
from backups.sets.verdicts import Verdicts
from shared.databases.sqlite import Database
from shared.printable import printable
from shared.store.object_store import ObjectStore
from shared.words import counted


class ChainAcceptance:
    """Clears chains of suspicion, here and in the store."""

    def __init__(
        self, store: ObjectStore, known: Database, marks: Marks, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._known = known
        self._marks = marks
        self._now = now

    def accept(self, chain: str, *, suspect: bool) -> None:
        """Leave that the points of a chain which are known now are to be trusted.

        Nothing where nothing speaks against them; with `suspect` their full, or one of them, did.
        Raises `StoreError`, `ProofFailed`.
        """
        with self._known.reading() as connection:
            row = table.chain(connection, chain)
            doubts = known_verdicts(connection, chain).doubts
            says = any(one.suspect for one in table.points(connection, chain))
            read = [one.last for one in objects(connection, chain) if one.mark == "valid"]
            last = max(table.highest_number(connection, chain), *read, 0)
        if row is None or not (suspect or doubts or says):
            return
        names = tuple(check_key("", chain, one.at).rpartition("/")[2] for one in doubts)
        at = self._now().replace(microsecond=0)
        put_check(
            self._store, self._known, self._marks, Check(FORMAT, chain, at, last, accepts=names)
        )

    def going_on(self, instance: str, set_id: str) -> str | None:
        """The newest chain of an installation, if it goes on, and hangs on a set before `set_id`.

        The set has what that chain had at its instant: both are as they should be, or neither.
        """
        with self._known.reading() as connection:
            rows = table.chains(connection)
        newest = next(
            (one for one in rows if one.instance == instance and one.head_mark == "valid"), None
        )
        if newest is None or newest.end is not None or set_of(newest.id) >= set_id:
            return None
        return newest.id


class Acceptance:
    """Clears sets of suspicion, and ends the problem of what is missing."""

    def __init__(
        self,
        catalogue: Catalogue,
        verdicts: Verdicts,
        facts: HostState,
        *,
        chains: ChainAcceptance,
        own_sets: OwnSets,
        alerts: Alerts,
    ) -> None:
        self._catalogue = catalogue
        self._chains = chains
        self._own_sets = own_sets
        self._verdicts = verdicts
        self._facts = facts
        self._alerts = alerts

    def accept(self, target: str) -> BackupSet:
        """Clear a set of suspicion, its chain with it, and its sources of having been begun anew.

        `target` is its id, `latest`, or the id of a point: then it is the chain of that point, and
        its full where that is suspect. Raises what `OwnSets.named` does, and `StoreError`.
        """
        self._catalogue.refresh()
        cleared = self._own_sets.named(target)
        point = cleared.point
        full = self._catalogue.get(set_of(point.chain)) if point else cleared
        if point is None or full.suspect:
            self._verdicts.note_acceptance(full.id)
        if full.kind == "set":
            chain = chain_id(full.id, full.instance)
            self._chains.accept(chain, suspect=bool(cleared.suspect or full.suspect))
            other = self._chains.going_on(full.instance, full.id) if point is None else None
            if other is not None:
                self._chains.accept(other, suspect=False)
        for stored in cleared.objects:
            self._facts.forget_started_empty(stored.source)
            self._facts.forget_baseline(stored.source)
        self._alerts.send_alerts()
        return self._catalogue.get(cleared.id)

    def accept_missing(self) -> tuple[MissingPoint, ...]:
        """Remember that the loss of all missing restore points is known; those that were missing.

        They are a problem until a newer proven set is in the store: at once, if there is one.
        """
        missing = self._own_sets.missing_points()
        self._catalogue.accept_missing()
        self._alerts.send_alerts()
        return missing


class Pins:
    """Keeps sets whatever retention says, until a person lets them go."""

    def __init__(self, catalogue: Catalogue, verdicts: Verdicts, own_sets: OwnSets) -> None:
        self._catalogue = catalogue
        self._verdicts = verdicts
        self._own_sets = own_sets

    def pin(self, target: str, label: str = "") -> BackupSet:
        """Keep a set, by its id or `latest`, and say why; a new label takes the place of the old.

        Raises what `OwnSets.named` does, `NotPinnable`, `StoreError`.
        """
        text = label.strip()
        if len(text) > MOST_LABEL or printable(text) != text:
            raise NotPinnable(
                f"a label has at most {counted(MOST_LABEL, 'letter')}, all of them printable",
                "Choose a shorter one, in one line.",
            )
        return self._note(target, text)

    def unpin(self, target: str) -> BackupSet:
        """Keep a set no longer than retention says. Raises as `pin`."""
        return self._note(target, None)

    def _note(self, target: str, label: str | None) -> BackupSet:
        self._catalogue.refresh()
        found = self._own_sets.named(target)
        if found.point is not None:
            full = set_of(found.point.chain)
            raise NotPinnable(
                f"{found.id} is a point between sets, and points are kept for "
                "BACKUP_KEEP_POINTS_DAYS",
                f"Pin the set that it follows (./bot backups pin {full}), or keep its files: "
                f"./bot backups restore {found.id} --to DIR",
            )
        if found.kind == "legacy" or found.mark != "valid":
            raise NotPinnable(
                f"{found.id} has no valid mark, so it is never deleted automatically",
                "It needs no pin. To see what is kept and why: ./bot backups prune --dry-run",
            )
        if found.instance not in self._own_sets.ours():
            raise NotPinnable(
                f"{found.id} was made by another installation, {found.instance}, and its own host "
                "pins and unpins it",
                "Type the command on that host. If it is gone: "
                f"./bot backups adopt {found.instance}",
            )
        self._verdicts.note_pin(found.id, label)
        return self._catalogue.get(found.id)
