"""Who writes to the store: the documents of the installations, and what `latest` chooses from.

An installation that has no good set of its own chooses from the one line of succession that the
store has. Where there are two, a person chooses.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import islice

from pydantic import TypeAdapter, ValidationError

from backups.decisions.succession import Choice, line_of, lines_of, several_installations
from backups.errors import SeveralInstallations
from backups.format import naming
from backups.format.instance import MOST_BYTES, InstanceDocument, load_instance
from backups.host.state import HostState
from backups.operations.installation import Installation
from shared.errors import (
    ObjectMissing,
    ObjectTooLarge,
    StoreAccessDenied,
    StoreError,
    StoreFailing,
)
from shared.store.object_store import get_document

_log = logging.getLogger("backups.run")

# A document that is dated later than this from now does not count.
TOLERANCE = timedelta(minutes=5)
_MOST_KEYS = 10_000
_MOST_DOCUMENTS = 100
_OF_ONE_OBJECT = (StoreAccessDenied, StoreFailing)


@dataclass(frozen=True)
class Known:
    """What this host has read in the store at `place`: its own newest document, and others'."""

    place: str
    looked_at: datetime
    own: InstanceDocument | None = None
    others: tuple[InstanceDocument, ...] = ()
    own_unread: bool = False  # the store has a newer one of ours, and does not return it


@cache
def _adapter() -> TypeAdapter[Known]:
    return TypeAdapter(Known)


class Writers:
    """Reads who writes to the store, and remembers it. Raises `DatabaseError`."""

    def __init__(self, installation: Installation, facts: HostState) -> None:
        self._prefix = installation.config.prefix
        self._store = installation.store
        self._directory = installation.directory
        self._catalogue = installation.catalogue
        self._ours = installation.ours
        self._clock = installation.clock
        self._facts = facts
        self._place = f"{installation.store.location} {self._prefix}"

    # --- the documents ------------------------------------------------------------------

    def known(self) -> Known | None:
        """What was last read in this store; no network."""
        text = self._facts.instances()
        try:
            known = _adapter().validate_json(text) if text else None
        except ValidationError:
            return None
        if known is None or known.place != self._place:
            return None  # another store, of which it says nothing
        own = known.own
        return known if own is None or own.instance == self._directory.instance() else None

    def note(self, known: Known) -> None:
        """Remember what the store has."""
        self._facts.set_instances(_adapter().dump_json(known).decode())

    def documents(self) -> Mapping[str, InstanceDocument]:
        """The newest known document of each other installation; no network."""
        known = self.known()
        return {one.instance: one for one in known.others} if known else {}

    def look(self) -> Known:
        """Read the newest document of each installation; raises `StoreError`."""
        now = self._clock.now()
        newest: dict[str, tuple[datetime, str]] = {}
        for listed in islice(self._store.list(naming.instances_prefix(self._prefix)), _MOST_KEYS):
            parsed = naming.parse_instance_document_key(self._prefix, listed.key)
            if parsed is None or parsed[1] > now + TOLERANCE or listed.size > MOST_BYTES:
                continue
            instance, at = parsed
            if instance not in newest or newest[instance][0] < at:
                newest[instance] = (at, listed.key)
        me = self._directory.instance()
        others = sorted((at, instance) for instance, (at, _) in newest.items() if instance != me)
        own, own_unread = None, False
        try:
            own = self._read(me, *newest[me]) if me in newest else None
        except _OF_ONE_OBJECT as error:
            own_unread = True
            _log.warning("the newest document of this installation: %s", error.message)
        read = [self._read_other(one, *newest[one]) for _, one in others[-_MOST_DOCUMENTS:]]
        for former in own.succeeds if own else ():
            if own and former not in self._facts.predecessors():  # the records were made anew
                self._facts.succeed(former, own.last_sets.get(former))
        found = tuple(one for one in read if one is not None)
        known = Known(self._place, now, own, found, own_unread)
        self.note(known)
        return known

    def try_to_look(self) -> None:
        """Read them, unless the store is away: then what is known serves."""
        try:
            self.look()
        except StoreError as error:
            _log.warning("could not read who writes to the store: %s", error.message)

    def _read_other(self, instance: str, at: datetime, key: str) -> InstanceDocument | None:
        """The same; a document that the store does not return says nothing, and stops nothing."""
        try:
            return self._read(instance, at, key)
        except _OF_ONE_OBJECT as error:
            _log.warning("the document of installation %s: %s", instance, error.message)
            return None

    def _read(self, instance: str, at: datetime, key: str) -> InstanceDocument | None:
        try:
            document = get_document(self._store, key, MOST_BYTES)
            return load_instance(document, instance=instance, at=at)
        except ObjectMissing:
            return None
        except (ObjectTooLarge, ValueError) as error:
            _log.warning("%s says nothing that can be used: %s", key, error)
            return None

    # --- what `latest` chooses from -----------------------------------------------------

    def has_own_sets(self) -> bool:
        """Whether a set of ours protects: then no other installation's is ever meant."""
        return self._catalogue.has_protecting(self._ours())

    def chosen_from(self, *, ask: bool) -> frozenset[str]:
        """The instances whose sets `latest` and `--at` mean.

        With `ask`, the store is asked who writes there before another one's sets are meant; when
        it does not answer, what is known serves. Raises `SeveralInstallations`.
        """
        if self.has_own_sets():
            return self._ours()
        if ask:
            self.try_to_look()
        lines = lines_of(self._catalogue.by_instance(), self.documents(), self._clock.now())
        if len(lines) > 1:
            choices = [
                Choice(
                    line, self.host_of(line.head), self._catalogue.newest_protecting(line.instances)
                )
                for line in lines
            ]
            raise SeveralInstallations(*several_installations(choices))
        return lines[0].instances if lines else self._ours()

    def line_of(self, instance: str) -> frozenset[str]:
        """An installation, and all that it succeeds, as far as this host knows; no network."""
        sets, now = self._catalogue.by_instance(), self._clock.now()
        return line_of(instance, sets, self.documents(), now)

    def host_of(self, instance: str) -> str | None:
        """What an installation calls its host, as far as this host knows; no network."""
        document = self.documents().get(instance)
        return document.host if document else None
