"""Adopt: who this installation is, and whose sets it takes over, said in the store.

    read who writes there -> adopt an earlier installation of this very folder -> say who this is

Succession is in the store, so that records that are made anew learn it again.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import islice

from pydantic import TypeAdapter, ValidationError

from backups.decisions.due import two_due_before
from backups.decisions.succession import (
    EarlierInstallation,
    SuccessionFacts,
    describe,
    earlier_finding,
    earlier_installation,
    to_adopt,
    with_predecessors,
)
from backups.errors import InstanceUnknown
from backups.format import naming
from backups.format.instance import (
    FORMAT,
    MOST_BYTES,
    MOST_PREDECESSORS,
    InstanceDocument,
    dump_instance,
    load_instance,
)
from backups.host.machine import this_host, this_machine
from backups.host.state import HostState
from backups.model import Finding
from backups.operations.installation import Installation
from backups.operations.own_sets import OwnSets
from backups.sets.puts import put_document
from shared.errors import ObjectMissing, StoreAccessDenied, StoreFailing

_log = logging.getLogger("backups.run")

# A document that is dated later than this from now does not count.
TOLERANCE = timedelta(minutes=5)
_LOOK_INTERVAL = timedelta(hours=24)
_MOST_KEYS = 10_000
_MOST_DOCUMENTS = 100
_SECOND = timedelta(seconds=1)
_OF_ONE_OBJECT = (StoreAccessDenied, StoreFailing)


@dataclass(frozen=True)
class _Known:
    """What this host has read in the store at `place`: its own newest document, and others'."""

    place: str
    looked_at: datetime
    own: InstanceDocument | None = None
    others: tuple[InstanceDocument, ...] = ()
    own_unread: bool = False  # the store has a newer one of ours, and does not return it


@cache
def _adapter() -> TypeAdapter[_Known]:
    return TypeAdapter(_Known)


class Adopt:
    """Keeps the document of this installation, and takes over the sets of earlier ones."""

    def __init__(self, installation: Installation, facts: HostState, own_sets: OwnSets) -> None:
        self._prefix = installation.config.prefix
        self._schedule = installation.config.schedule
        self._store = installation.store
        self._directory = installation.directory
        self._catalogue = installation.catalogue
        self._clock = installation.clock
        self._facts = facts
        self._own_sets = own_sets
        self._place = f"{installation.store.location} {self._prefix}"

    def say_who_this_is(self) -> None:
        """Store the document of this installation, unless the store has it as it is now.

        Once a day it first reads what others have stored. Raises `StoreError`, `ProofFailed`.
        """
        known = self._known()
        age = self._clock.now() - known.looked_at if known else None
        if age is None or not timedelta(0) <= age < _LOOK_INTERVAL:
            known = self._look()
            if self._own_sets.refresh() is None:  # else it is not known whose sets have ended
                self._adopt_what_was_here()
        assert known is not None  # noqa: S101 - it has just been looked
        self._store_own(known)

    def adopt(self, instance: str) -> EarlierInstallation:
        """Count the sets of another installation as this one's, here and on the next host.

        Raises `InstanceUnknown`, `StoreError`, `ProofFailed`.
        """
        self._catalogue.refresh()
        known = self._look()
        facts = self._succession()
        found = next((one for one in facts.sets if one.instance == instance), None)
        if found is None:
            raise InstanceUnknown(
                f"the store has no set of an installation {instance!r}",
                "python -m backups status names the earlier one; python -m backups list --json "
                "shows the installation of each set.",
            )
        self._succeed(facts, instance)
        self._store_own(known)
        return describe(facts, found)

    def warnings(self) -> tuple[Finding, ...]:
        """The earlier installation that a person may want to adopt; no network."""
        earlier = earlier_installation(self._succession())
        return (earlier_finding(earlier),) if earlier else ()

    def _adopt_what_was_here(self) -> None:
        facts = self._succession()
        for instance in to_adopt(facts):
            self._succeed(facts, instance)
            _log.warning(
                "the sets of %s, an earlier installation in this folder of this machine, count as "
                "this one's from now on",
                instance,
            )

    def _succeed(self, facts: SuccessionFacts, instance: str) -> None:
        for one in with_predecessors(facts, instance):
            if one != facts.me.instance:
                self._facts.succeed(one)

    def _succession(self) -> SuccessionFacts:
        known = self._known()
        now = self._clock.now()
        return SuccessionFacts(
            me=self._describe(now),
            ours=self._own_sets.ours(),
            sets=self._catalogue.by_instance(),
            others={one.instance: one for one in known.others} if known else {},
            quiet_since=two_due_before(self._schedule, now),
        )

    # --- the documents ------------------------------------------------------------------

    def _describe(self, at: datetime) -> InstanceDocument:
        predecessors = sorted(filter(naming.is_instance, self._facts.predecessors()))
        directory = str(self._directory.path.absolute())
        return InstanceDocument(
            format=FORMAT,
            instance=self._directory.instance(),
            host=this_host(),
            machine=this_machine(),
            directory="".join(one for one in directory if one.isprintable())[:4096],
            succeeds=tuple(predecessors[:MOST_PREDECESSORS]),
            at=at,
        )

    def _store_own(self, known: _Known) -> None:
        if known.own_unread:
            return  # the newest counts: one that knows less than that would end a succession
        at = self._clock.now().replace(microsecond=0)
        if known.own is not None:
            at = max(at, known.own.at + _SECOND)  # the newest counts
        wanted = self._describe(at)
        if known.own is not None and wanted.says_the_same(known.own):
            return
        key = naming.instance_document_key(self._prefix, wanted.instance, at)
        put_document(self._store, key, dump_instance(wanted), {"instance": wanted.instance})
        self._note(replace(known, own=wanted))

    def _look(self) -> _Known:
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
            if former not in self._own_sets.ours():  # the records were made anew since
                self._facts.succeed(former)
        found = tuple(one for one in read if one is not None)
        known = _Known(self._place, now, own, found, own_unread)
        self._note(known)
        return known

    def _read_other(self, instance: str, at: datetime, key: str) -> InstanceDocument | None:
        """The same; a document that the store does not return says nothing, and stops nothing."""
        try:
            return self._read(instance, at, key)
        except _OF_ONE_OBJECT as error:
            _log.warning("the document of installation %s: %s", instance, error.message)
            return None

    def _read(self, instance: str, at: datetime, key: str) -> InstanceDocument | None:
        sink = _Bounded()
        try:
            self._store.get(key, sink)
            return load_instance(sink.getvalue(), instance=instance, at=at)
        except ObjectMissing:
            return None
        except ValueError as error:
            _log.warning("%s says nothing that can be used: %s", key, error)
            return None

    def _known(self) -> _Known | None:
        text = self._facts.instances()
        try:
            known = _adapter().validate_json(text) if text else None
        except ValidationError:
            return None
        if known is None or known.place != self._place:
            return None  # another store, of which it says nothing
        own = known.own
        return known if own is None or own.instance == self._directory.instance() else None

    def _note(self, known: _Known) -> None:
        self._facts.set_instances(_adapter().dump_json(known).decode())


class _Bounded(io.BytesIO):
    """Takes a little more than a document may have, and forgets the rest."""

    def write(self, chunk: bytes, /) -> int:  # type: ignore[override]
        """See `Sink.write`."""
        super().write(chunk[: max(0, MOST_BYTES + 1 - self.tell())])
        return len(chunk)
