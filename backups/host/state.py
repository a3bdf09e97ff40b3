"""What this host remembers of itself: one typed record for each thing, in the table `facts`.

One file, because the names under which they are stored are known in one place. A value that cannot
be read counts as absent, and a line of the log names it: one bad row must not silence status on a
bad day.

last_drill, last_restore             a document each, as JSON
restore_switch                       what a run was about to replace, as JSON
time:begun, time:swept, time:marking an instant each, as `format_utc` writes it
sets_moved_to                        which catalogue took over the sets that `runs.db` had
follow_request, restored_chain       what a restore asks of the follower, and tells it
points_passed_over                   what `latest` is no more until the follower has done that
owed_asides                          what the store has yet to be told was set aside, as JSON
successor_of:<instance>              how far it had come, as JSON; `1` where nobody noted it
instances                            who writes to the store, as JSON (`operations.adopt`)
started_empty:<source>               an instant
baseline:<source>                    a document, as JSON
ended_login:<login>                  an instant
undo:<run>                           `1`
kit_kept, settings_check             a document each, as JSON (`host/remembered`)
second_location, time:second, second_place  where copies go, since when, and the last copying
drill_place                          in which place the last scheduled drill was
last_outcome, untold_outcome         how the last backup of several hosts went, as JSON
newest_restore                       the run of it, of several hosts
doomed:<set>                         when one of several hosts began to remove it
stand_in                             what the second place has while the first is away, as JSON
receiver:<id>, outage:<id>           what a receiver was sent, as JSON: see `host/messages`
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from backups.format.instance import LastSet
from backups.host import totals
from backups.host.messages import Messages
from backups.host.remembered import attempts, deeds, kit, second
from backups.host.remembered.checks import CheckRecord
from backups.host.remembered.common import CommonFacts
from backups.host.remembered.deeds import DOOMED, Deeds
from backups.host.remembered.kit import KitRecord
from backups.host.remembered.record import UNDO, Record, document, time_of
from backups.host.remembered.second import SecondRecord
from backups.model import Baseline, DrillReport
from backups.vocabulary.replaced import Replaced, RestoreRecord, Switch
from shared.adapters import adapter_of
from shared.clock import format_utc
from shared.databases.engines.database import Connection
from shared.databases.engines.database import Database as SharedDatabase
from shared.databases.sqlite import Database

T = TypeVar("T")


_LAST_DRILL = document("last_drill", DrillReport)
_LAST_RESTORE = document("last_restore", RestoreRecord)
_SWITCH = document("restore_switch", Switch)
_BEGUN = time_of("time:begun")
_SWEPT = time_of("time:swept")
_MARKING = time_of("time:marking")
_LEADER_KEY: Record[str] = Record("leader_key", str, str)
_LEADER_KEYS: Record[str] = Record("leader_keys", str, str)
_FOLLOW_REQUEST: Record[str] = Record("follow_request", str, str)
_RESTORED_CHAIN: Record[str] = Record("restored_chain", str, str)
_PASSED_OVER: Record[int] = Record("points_passed_over", str, int)
_SETS_MOVED: Record[str] = Record("sets_moved_to", str, str)
_INSTANCES: Record[str] = Record("instances", str, str)
# Pairs of a set's id and the name of the document beside its manifest.
_OWED_ASIDES: Record[tuple[tuple[str, str], ...]] = Record(
    "owed_asides",
    json.dumps,
    lambda text: tuple(adapter_of(list[tuple[str, str]]).validate_json(text)),
)

# Beginnings of names that end in what the value is about.
_SUCCESSOR_OF = "successor_of:"
_NOT_NOTED = "1"
_STARTED_EMPTY = "started_empty:"
_BASELINE = "baseline:"
_ENDED_LOGIN = "ended_login:"


# What is true of an installation, whichever of its hosts has found it out or done it.
_OF_OTHERS = (*kit.NAMES, *second.NAMES, *attempts.NAMES, *deeds.NAMES)
_COMMON_NAMES = (_LAST_DRILL.name, _LEADER_KEY.name, *_OF_OTHERS)
_COMMON_BEGINNINGS = (_SUCCESSOR_OF, _STARTED_EMPTY, _BASELINE, DOOMED)


def is_common(name: str) -> bool:
    """Whether a fact of this name is one."""
    return name in _COMMON_NAMES or name.startswith(_COMMON_BEGINNINGS)


class HostState:
    """What this host remembers. Raises `DatabaseError` when its records cannot be used.

    With `shared`, what is true of the installation is noted there as well, for all of its hosts.
    `messages` is what was sent to whom, `kit` that a person keeps the emergency kit elsewhere,
    `deeds` what one of several hosts
    did, `checks` what was found after a change of settings, `second` how the second place was.
    """

    def __init__(self, records: Database, shared: SharedDatabase | None = None) -> None:
        self._records = records
        self.common = common = CommonFacts(records, shared, is_common)
        self.messages = Messages(records, common, shared)
        self.kit = KitRecord(common)
        self.deeds = Deeds(common)
        self.checks = CheckRecord(records)
        self.second = SecondRecord(common)

    def offer_what_is_common(self) -> None:
        """See `CommonFacts.offer`, and `Messages.offer`."""
        self.common.offer()
        self.messages.offer()

    # --- restores and drills ------------------------------------------------------------

    def last_drill(self) -> DrillReport | None:
        """The newest drill of the installation."""
        return self.common.read(_LAST_DRILL.read)

    def set_last_drill(self, report: DrillReport) -> None:
        """Remember the newest drill."""
        self.common.write(lambda connection: _LAST_DRILL.write(connection, report))

    def last_restore(self) -> RestoreRecord | None:
        """The newest restore in place on this host."""
        return self._read(_LAST_RESTORE)

    def set_last_restore(self, record: RestoreRecord) -> None:
        """Remember what the newest restore in place replaced."""
        self._write(_LAST_RESTORE, record)
        self.deeds.note_restore(record.run_id)

    def switch(self) -> Switch | None:
        """What a run was about to replace, until it is known whether it has."""
        return self._read(_SWITCH)

    def begin_switch(self, switch: Switch) -> None:
        """Remember what a run is about to replace, so that it can be undone after a crash."""
        self._write(_SWITCH, switch)

    def end_switch(self, record: RestoreRecord | None) -> None:
        """It was replaced, and `record` says so; or, with None, it was not."""
        with self._records.transaction() as connection:
            if record is not None:
                _LAST_RESTORE.write(connection, record)
            _SWITCH.forget(connection)
        if record is not None:
            self.deeds.note_restore(record.run_id)

    def needed_for_undo(self) -> tuple[Path, ...] | None:
        """Where what the newest restore replaced lies; None when its record cannot be read."""
        with self._records.reading() as connection:
            found = [(one, one.text(connection)) for one in (_LAST_RESTORE, _SWITCH)]
        needed: list[Replaced] = []
        for kind, text in found:
            if text is None:
                continue
            value = kind.parse(text)
            if value is None:
                return None
            record = value.record if isinstance(value, Switch) else value
            needed += (*record.replaced, *record.owed)
            if isinstance(value, Switch):
                needed.append(value.put_aside)
        return tuple(replaced.path for replaced in needed if replaced.path is not None)

    def predecessors(self) -> dict[str, LastSet | None]:
        """The instances that this host took over, and how far each had come, if that was noted."""
        return {
            instance: None
            if text == _NOT_NOTED
            else document(f"{_SUCCESSOR_OF}{instance}", LastSet).parse(text)
            for instance, text in self._read_all(_SUCCESSOR_OF).items()
        }

    def succeed(self, instance: str, last: LastSet | None = None) -> None:
        """Remember that this host takes over another instance, which had come so far."""
        name = f"{_SUCCESSOR_OF}{instance}"
        text = _NOT_NOTED if last is None else document(name, LastSet).dump(last)
        self.common.write(lambda connection: Record(name, str, str).write(connection, text))

    def forget_predecessor(self, instance: str) -> None:
        """The instance publishes again, or another one is carried on."""
        self.common.write(Record(f"{_SUCCESSOR_OF}{instance}", str, str).forget)

    def note_undo(self, run_id: str) -> None:
        """Remember that a run of the operation `restore` is an undo."""
        self._write(Record(f"{UNDO}{run_id}", str, str), "1")

    def undos(self) -> frozenset[str]:
        """The runs that are undos."""
        return frozenset(self._read_all(UNDO))

    def instances(self) -> str | None:
        """What was last read in the store of who writes there."""
        return self._read(_INSTANCES)

    def set_instances(self, text: str) -> None:
        """Remember what was read in the store of who writes there."""
        self._write(_INSTANCES, text)

    def baselines(self) -> dict[str, Baseline]:
        """What restores in place have put into the places of sources, by source."""
        return {
            source: found
            for source, text in self._read_all(_BASELINE).items()
            if (found := document(f"{_BASELINE}{source}", Baseline).parse(text)) is not None
        }

    def set_baseline(self, source: str, baseline: Baseline) -> None:
        """Remember what was restored into the place of a source."""
        record = document(f"{_BASELINE}{source}", Baseline)
        self.common.write(lambda connection: record.write(connection, baseline))

    def forget_baseline(self, source: str) -> None:
        """The restore was undone, or a later set accepted."""
        self.common.write(Record(f"{_BASELINE}{source}", str, str).forget)

    def owed_asides(self) -> tuple[tuple[str, str], ...]:
        """The documents that the store has yet to get: pairs of a set's id and a name."""
        return self._read(_OWED_ASIDES) or ()

    def set_owed_asides(self, owed: Sequence[tuple[str, str]]) -> None:
        """Remember which documents the store has yet to get."""
        self._write(_OWED_ASIDES, tuple(owed))

    # --- the follower -------------------------------------------------------------------

    def follow_request(self) -> str | None:
        """Who asks the follower to let go of the live databases: a start of the host, and when."""
        return self._read(_FOLLOW_REQUEST)

    def ask_follower(self, text: str | None) -> None:
        """Ask the follower to let go, or withdraw that."""
        self._replace(_FOLLOW_REQUEST, text)

    def restored_chain(self) -> str | None:
        """What a restore brought back (point, instant, sequence), until the chain has ended."""
        return self._read(_RESTORED_CHAIN)

    def end_chain_by_restore(self, text: str) -> None:
        """Remember that a restore ends the chain; the follower does it."""
        self._replace(_PASSED_OVER, None)
        self._write(_RESTORED_CHAIN, text)

    def pass_over_points(self, after: int | None) -> None:
        """Remember after which place in the line a restore that has ended well passes points over,
        for as long as the follower has not ended the chain."""
        self._replace(_PASSED_OVER, after)

    def points_passed_over(self) -> int | None:
        """After which place that is; None where the chain has ended, and its end says it."""
        with self._records.reading() as connection:
            owed = _RESTORED_CHAIN.text(connection)
            return _PASSED_OVER.read(connection) if owed else None

    def forget_restored_chain(self) -> None:
        """The chain has ended."""
        self._replace(_RESTORED_CHAIN, None)

    # --- when things happened -----------------------------------------------------------

    def begun_at(self) -> datetime | None:
        """Since when a process of this host schedules backups."""
        return self._read(_BEGUN)

    def note_begun(self, at: datetime) -> None:
        """Remember that a process of this host schedules backups; the first time counts.

        One that lies in the future does not: then the clock was ahead.
        """
        begun = self.begun_at()
        if begun is None or begun > at:
            self._write(_BEGUN, at)

    def leader_key(self) -> str | None:
        """The fingerprint of the first token key of the process that scheduled last."""
        return self.common.read(_LEADER_KEY.read)

    def note_leader_key(self, fingerprint: str) -> None:
        """Remember the first token key of the process that schedules the backups."""
        if self.leader_key() != fingerprint:
            self.common.write(lambda connection: _LEADER_KEY.write(connection, fingerprint))

    def exchange_leader_keys(self, fingerprints: str) -> str | None:
        """Remember all token keys of the process that schedules; those of the one before."""
        before = self._read(_LEADER_KEYS)
        if before != fingerprints:
            self._write(_LEADER_KEYS, fingerprints)
        return before

    def swept_at(self) -> datetime | None:
        """When the store was last swept of what no manifest claims."""
        return self._read(_SWEPT)

    def set_swept_at(self, at: datetime) -> None:
        """Remember that the store was swept."""
        self._write(_SWEPT, at)

    def marking_since(self) -> datetime | None:
        """Since when the documents of this installation carry marks."""
        return self._read(_MARKING)

    def note_marking_since(self, at: datetime) -> None:
        """Remember it; the earliest time counts."""
        since = self.marking_since()
        if since is None or since > at:
            self._write(_MARKING, at)

    # --- sources that were missing at a start -------------------------------------------

    def started_empty(self) -> dict[str, datetime]:
        """Sources that were begun anew, and when."""
        return {
            source: at
            for source, text in self._read_all(_STARTED_EMPTY).items()
            if (at := time_of(f"{_STARTED_EMPTY}{source}").parse(text)) is not None
        }

    def note_started_empty(self, source: str, at: datetime) -> None:
        """Remember that a source was missing at a start, and was begun anew."""
        record = time_of(f"{_STARTED_EMPTY}{source}")
        self.common.write(lambda connection: record.write(connection, at))

    def forget_started_empty(self, source: str) -> None:
        """The source was restored, or its emptiness accepted."""
        self.common.write(Record(f"{_STARTED_EMPTY}{source}", str, str).forget)

    # --- messages -----------------------------------------------------------------------

    def notifications(self) -> Mapping[str, int]:
        """How many notifications were `sent`, and how many `failed`."""
        with self._records.reading() as connection:
            return totals.notification_totals(connection)

    # --- logins to the page -------------------------------------------------------------

    def login_is_ended(self, login_id: str) -> bool:
        """Whether a login to the page was ended, by whichever process of this host.

        Also when the time of its end cannot be read: it must not come to life again.
        """
        with self._records.reading() as connection:
            return time_of(f"{_ENDED_LOGIN}{login_id}").text(connection) is not None

    def end_login(self, login_id: str, at: datetime, forget_before: datetime) -> None:
        """Remember that a login to the page was ended; those ended long ago are expired."""
        with self._records.transaction() as connection:
            time_of(f"{_ENDED_LOGIN}{login_id}").write(connection, at)
            connection.execute(
                "DELETE FROM facts WHERE substr(name, 1, ?) = ? AND value < ?",
                (len(_ENDED_LOGIN), _ENDED_LOGIN, format_utc(forget_before)),
            )

    # --- the table ----------------------------------------------------------------------

    def _read(self, record: Record[T]) -> T | None:
        with self._records.reading() as connection:
            return record.read(connection)

    def _write(self, record: Record[T], value: T) -> None:
        with self._records.transaction() as connection:
            record.write(connection, value)

    def _replace(self, record: Record[T], value: T | None) -> None:
        if value is not None:
            self._write(record, value)
            return
        with self._records.transaction() as connection:
            record.forget(connection)

    def _read_all(self, beginning: str) -> dict[str, str]:
        """The texts of all names with this beginning, by the rest of the name."""

        def look(connection: Connection) -> list[tuple[str, str]]:
            query = "SELECT name, value FROM facts WHERE substr(name, 1, ?) = ?"
            return connection.execute(query, (len(beginning), beginning)).fetchall()

        is_common = beginning in _COMMON_BEGINNINGS
        rows = self.common.read(look) if is_common else self.common.read_own(look)
        return {str(name).removeprefix(beginning): str(text) for name, text in rows}


def sets_moved(records: sqlite3.Connection) -> bool:
    """Whether a catalogue has taken over the sets that `runs.db` had."""
    return _SETS_MOVED.text(records) is not None


def note_sets_moved(records: sqlite3.Connection, identity: str) -> None:
    """Remember that the catalogue of the store `identity` took them over; in a transaction."""
    _SETS_MOVED.write(records, identity)
