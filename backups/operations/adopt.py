"""Adopt: who this installation is, and whose sets it takes over, said in the store.

    read who writes there -> adopt an earlier installation of this very folder -> say who this is

Succession is in the store, so that records that are made anew learn it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from backups.decisions.due import two_due_before
from backups.decisions.marks import adopting
from backups.decisions.succession import (
    EarlierInstallation,
    SuccessionFacts,
    describe,
    earlier_finding,
    earlier_installation,
    to_adopt,
)
from backups.errors import InstanceUnknown
from backups.format import naming
from backups.format.instance import FORMAT, MOST_PREDECESSORS, InstanceDocument, dump_instance
from backups.host.machine import this_host, this_machine
from backups.host.state import HostState
from backups.model import BackupSet, Finding
from backups.operations.installation import Installation
from backups.operations.own_sets import OwnSets
from backups.operations.writers import Known, Writers
from backups.sets.puts import put_document
from shared.errors import AppError

_log = logging.getLogger("backups.run")

_LOOK_INTERVAL = timedelta(hours=24)
_SECOND = timedelta(seconds=1)


class Adopt:
    """Keeps the document of this installation, and takes over the sets of earlier ones."""

    def __init__(
        self, installation: Installation, facts: HostState, own_sets: OwnSets, writers: Writers
    ) -> None:
        self._prefix = installation.config.prefix
        self._schedule = installation.config.schedule
        self._marks = installation.config.marks
        self._store = installation.store
        self._directory = installation.directory
        self._catalogue = installation.catalogue
        self._clock = installation.clock
        self._facts = facts
        self._own_sets = own_sets
        self._writers = writers

    def say_who_this_is(self) -> None:
        """Store the document of this installation, unless the store has it as it is now.

        Once a day it first reads what others have stored. Raises `StoreError`, `ProofFailed`.
        """
        known = self._writers.known()
        age = self._clock.now() - known.looked_at if known else None
        if age is None or not timedelta(0) <= age < _LOOK_INTERVAL:
            known = self._writers.look()
            if self._own_sets.refresh() is None:  # else it is not known whose sets have ended
                self._adopt_what_was_here()
        assert known is not None  # noqa: S101 - it has just been looked
        self._settle()
        self._store_own(known)

    def say_what_was_taken_over(self) -> None:
        """Store whom this installation succeeds, if it succeeds any; a failure is logged.

        At a start: an older version remembered it in `runs.db` alone.
        """
        if not self._facts.predecessors():
            return
        try:
            self.say_who_this_is()
        except AppError as error:
            _log.warning(
                "could not store which installations this one succeeds; the next run will do it: "
                "%s [%s]",
                error.message,
                error.code,
            )

    def adopt(self, instance: str) -> EarlierInstallation:
        """Count the sets of another installation as this one's, here and on the next host.

        So do those of the installations that it succeeds. Raises `InstanceUnknown`, `StoreError`,
        `ProofFailed`.
        """
        self._catalogue.refresh()
        known = self._writers.look()
        facts = self._succession()
        found = next((one for one in facts.sets if one.instance == instance), None)
        if found is None:
            raise unknown_instance(instance, self._catalogue.sets())
        self._succeed(instance)
        self._store_own(known)
        return self._named(describe(facts, found))

    def inherit(self, instance: str) -> None:
        """Carry on the line of an installation: its set was restored here, where no data was.

        What was carried on before, and is not of that line, no longer is. The store learns it now,
        or with the next run.
        """
        if instance in self._own_sets.ours():
            return
        line = self._writers.line_of(instance)
        for former in self._facts.predecessors():
            if former not in line:
                self._facts.forget_predecessor(former)
        self._succeed(instance)
        self.say_what_was_taken_over()

    def warnings(self) -> tuple[Finding, ...]:
        """The earlier installation that a person may want to adopt; no network."""
        earlier = earlier_installation(self._succession())
        return (earlier_finding(self._named(earlier)),) if earlier else ()

    def _named(self, found: EarlierInstallation) -> EarlierInstallation:
        return replace(found, host=self._writers.host_of(found.instance))

    def _adopt_what_was_here(self) -> None:
        for instance in to_adopt(self._succession()):
            self._succeed(instance)
            _log.warning(
                "the sets of %s, an earlier installation in this folder of this machine, count as "
                "this one's from now on",
                instance,
            )

    def _succeed(self, instance: str) -> None:
        """Take over an installation and what it succeeds, as far as they have come now."""
        sets = {one.instance: one for one in self._catalogue.by_instance()}
        for one in self._writers.line_of(instance) - {self._directory.instance()}:
            self._facts.succeed(one, sets[one].last_set if one in sets else None)

    def _settle(self) -> None:
        """Forget those that publish again, and note of each other one how far it has come."""
        ours = self._own_sets.ours()
        sets = {one.instance: one for one in self._catalogue.by_instance()}
        for instance, last in self._facts.predecessors().items():
            if instance not in ours:
                self._facts.forget_predecessor(instance)
                _log.warning(
                    "installation %s publishes again, so its sets no longer count as this one's",
                    instance,
                )
            elif last is None and instance in sets:
                self._facts.succeed(instance, sets[instance].last_set)

    def _succession(self) -> SuccessionFacts:
        now = self._clock.now()
        return SuccessionFacts(
            me=self._describe(now),
            ours=self._own_sets.ours(),
            sets=self._catalogue.by_instance(),
            others=self._writers.documents(),
            quiet_since=two_due_before(self._schedule, now),
        )

    def _describe(self, at: datetime) -> InstanceDocument:
        last = self._facts.predecessors()
        ours = self._own_sets.ours()
        former = sorted(one for one in last if one in ours and naming.is_instance(one))
        succeeds = tuple(former[:MOST_PREDECESSORS])
        directory = str(self._directory.path.absolute())
        keys, rotated = (one.fingerprint for one in self._marks.keys), self._catalogue.rotated()
        return InstanceDocument(
            format=FORMAT,
            instance=self._directory.instance(),
            host=this_host(),
            machine=this_machine(),
            directory="".join(one for one in directory if one.isprintable())[:4096],
            succeeds=succeeds,
            at=at,
            last_sets={one: found for one in succeeds if (found := last[one]) is not None},
            marking_since=self._facts.marking_since() if self._marks.keys else None,
            rotated=next((key for key in keys if key in rotated), None),
        )

    def _store_own(self, known: Known) -> None:
        if known.own_unread:
            return  # the newest counts: one that knows less than that would end a succession
        at = self._clock.now().replace(microsecond=0)
        before = [one for one in (known.own_at, known.own.at if known.own else None) if one]
        at = max([at, *(one + _SECOND for one in before)])  # the newest counts
        wanted = self._describe(at)
        if known.own is not None and wanted.says_the_same(known.own):
            return
        key = naming.instance_document_key(self._prefix, wanted.instance, at)
        document = self._marks.sign(key, dump_instance(wanted))
        put_document(self._store, key, document, {"instance": wanted.instance})
        self._writers.note(replace(known, own=wanted))


def unknown_instance(instance: str, sets: Iterable[BackupSet]) -> InstanceUnknown:
    """The error for an id that none of `sets`, newest first, names with a valid mark."""
    newest = next((one for one in sets if one.instance == instance and one.kind != "legacy"), None)
    if newest is not None:
        return InstanceUnknown(
            f"no set of installation {instance} carries a valid mark; the newest is {newest.id}",
            f"If they are yours: {adopting(newest)}",
        )
    return InstanceUnknown(
        f"the store has no set of an installation {instance!r}",
        "To find the earlier one: ./bot backups status. To find that of each set: "
        "./bot backups list --json",
    )
