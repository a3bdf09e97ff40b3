"""Who writes to the store: the documents of the installations, and what `latest` chooses from.

An installation that has no good set of its own chooses from the one line of succession that the
store has. Where there are two, a person chooses.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from pydantic import ValidationError

from backups.decisions.succession import Choice, line_of, lines_of, several_installations
from backups.errors import SeveralInstallations
from backups.format import naming
from backups.format.instance import MOST_BYTES, InstanceDocument, load_instance
from backups.format.mark import Checked
from backups.host.state import HostState
from backups.operations.installation import Installation
from shared.adapters import adapter_of
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
_MOST_READ = 5  # documents of one installation
_OF_ONE_OBJECT = (StoreAccessDenied, StoreFailing)


@dataclass(frozen=True)
class Known:
    """What this host has read in the store at `place`: its own newest document, and others'."""

    place: str
    looked_at: datetime
    own: InstanceDocument | None = None
    others: tuple[InstanceDocument, ...] = ()
    own_unread: bool = False  # the store has a newer one of ours, and does not return it
    said: tuple[InstanceDocument, ...] = ()  # of those of whom no document is believed
    keys: tuple[str, ...] = ()  # those whose marks counted
    own_at: datetime | None = None  # of our newest document, believed or not


@dataclass(frozen=True)
class _Read:
    """A document, and how it is marked."""

    document: InstanceDocument
    mark: Checked

    def is_believed(self, counting: Collection[str]) -> bool:
        """Whether it has a mark of these keys; where there are none, each is believed."""
        marked = self.mark.outcome == "valid" and self.mark.fingerprint in counting
        return marked or not counting


class Writers:
    """Reads who writes to the store, and remembers it. Raises `DatabaseError`."""

    def __init__(self, installation: Installation, facts: HostState) -> None:
        self._prefix = installation.config.prefix
        self._marks = installation.config.marks
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
            known = adapter_of(Known).validate_json(text) if text else None
        except ValidationError:
            return None
        if known is None or known.place != self._place:
            return None  # another store, of which it says nothing
        counting = self._counting()
        if counting and known.keys != counting:
            return None  # read with other keys, or by a version that believed what had no mark
        own = known.own
        return known if own is None or own.instance == self._directory.instance() else None

    def note(self, known: Known) -> None:
        """Remember what the store has."""
        self._facts.set_instances(adapter_of(Known).dump_json(known).decode())

    def documents(self) -> Mapping[str, InstanceDocument]:
        """The newest known document of each other installation; no network."""
        known = self.known()
        return {one.instance: one for one in known.others} if known else {}

    def look(self) -> Known:
        """Read the newest document of each installation that is believed; raises `StoreError`.

        With keys, one is believed that carries a mark of them: it says whose sets are whose. Of an
        installation that has none, the newest one says no more than what the host is called.
        """
        now = self._clock.now()
        stored: dict[str, list[tuple[datetime, str]]] = {}
        for listed in islice(self._store.list(naming.instances_prefix(self._prefix)), _MOST_KEYS):
            parsed = naming.parse_instance_document_key(self._prefix, listed.key)
            if parsed is None or parsed[1] > now + TOLERANCE or listed.size > MOST_BYTES:
                continue
            stored.setdefault(parsed[0], []).append((parsed[1], listed.key))
        me = self._directory.instance()
        others = sorted(stored.keys() - {me}, key=lambda one: (max(stored[one])[0], one))
        read: dict[str, list[_Read]] = {}
        own_unread = False
        try:
            read[me] = list(self._read_newest(me, stored.get(me, ())))
        except _OF_ONE_OBJECT as error:
            own_unread = True
            _log.warning("the newest document of this installation: %s", error.message)
        for one in others[-_MOST_DOCUMENTS:]:
            read[one] = self._read_other(one, stored[one])
        self._learn_rotation(one for some in read.values() for one in some)
        believed = {one: found for one, some in read.items() if (found := self._believed(some))}
        own = believed.pop(me, None)
        self._learn_own(own)
        said = {one: some[0].document for one, some in read.items() if some and one != me}
        known = Known(
            self._place,
            now,
            own,
            tuple(believed.values()),
            own_unread,
            tuple(found for one, found in said.items() if one not in believed),
            self._counting(),
            max(stored[me])[0] if me in stored else None,
        )
        self.note(known)
        return known

    def _read_newest(
        self, instance: str, stored: Collection[tuple[datetime, str]]
    ) -> Iterator[_Read]:
        """The newest documents of an installation, until one has a mark of the first key.

        Somebody may have put newer ones that are worth nothing, but who can do that can also
        delete: so a few are enough.
        """
        signer = self._marks.keys[0].fingerprint if self._marks.keys else None
        for at, key in sorted(stored, reverse=True)[: _MOST_READ if signer else 1]:
            found = self._read(instance, at, key)
            if found is not None:
                yield found
                if found.mark == Checked("valid", signer):
                    return

    def _believed(self, read: Collection[_Read]) -> InstanceDocument | None:
        counting = self._counting()
        return next((one.document for one in read if one.is_believed(counting)), None)

    def _counting(self) -> tuple[str, ...]:
        """The keys whose marks count, by what is known of rotations."""
        return self._marks.since_rotation(self._catalogue.rotated()).counting

    def _learn_rotation(self, read: Iterable[_Read]) -> None:
        """Remember with which keys all was marked again; a newer key may repeat it."""
        keys = [one.fingerprint for one in self._marks.keys]
        for one in read:
            rotated, by = one.document.rotated, one.mark.fingerprint
            if one.mark.outcome == "valid" and rotated in keys and by in keys:
                assert rotated is not None and by is not None  # noqa: PT018, S101 - both are keys
                if keys.index(by) <= keys.index(rotated):
                    self._catalogue.note_rotated(rotated)

    def _learn_own(self, own: InstanceDocument | None) -> None:
        """What records that were made anew do not know any more."""
        if own is None:
            return
        for former in own.succeeds:
            if former not in self._facts.predecessors():
                self._facts.succeed(former, own.last_sets.get(former))
        if own.marking_since is not None:
            self._facts.note_marking_since(own.marking_since)

    def try_to_look(self) -> None:
        """Read them, unless the store is away: then what is known serves."""
        try:
            self.look()
        except StoreError as error:
            _log.warning("could not read who writes to the store: %s", error.message)

    def _read_other(self, instance: str, stored: Collection[tuple[datetime, str]]) -> list[_Read]:
        """The same; a document that the store does not return says nothing, and stops nothing."""
        try:
            return list(self._read_newest(instance, stored))
        except _OF_ONE_OBJECT as error:
            _log.warning("the document of installation %s: %s", instance, error.message)
            return []

    def _read(self, instance: str, at: datetime, key: str) -> _Read | None:
        try:
            stored = get_document(self._store, key, MOST_BYTES)
            document = load_instance(stored, instance=instance, at=at)
        except ObjectMissing:
            return None
        except (ObjectTooLarge, ValueError) as error:
            _log.warning("%s says nothing that can be used: %s", key, error)
            return None
        return _Read(document, self._marks.check(key, stored))

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

    def marking_since(self, instance: str) -> datetime | None:
        """Since when an installation marks its sets, as far as this host knows; no network."""
        known = self.known()
        found = [*known.others, known.own] if known else []
        of = next((one for one in found if one is not None and one.instance == instance), None)
        return of.marking_since if of else None

    def host_of(self, instance: str) -> str | None:
        """What an installation calls its host, as far as this host knows; no network."""
        known = self.known()
        said = {one.instance: one.host for one in known.said} if known else {}
        document = self.documents().get(instance)
        if document is None and instance in said:
            return f"{said[instance]} (so says a document without a mark)"
        return document.host if document else None
