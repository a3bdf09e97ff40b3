"""`World`: installations on one store, to which things happen, and what must be true of them."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Literal

from backups.decisions.retention import RetentionPolicy
from backups.errors import NothingToUndo
from backups.model import Progress, Run, Source
from backups.service import BackupService
from shared.errors import AppError
from tests.support.bench import open_bench
from tests.support.clock import FixedClock
from tests.support.history_oracle import (
    Content,
    SafeRows,
    StoreJudge,
    connect,
    content_of,
    refuse,
)
from tests.support.model_store import Listing, ModelStore
from tests.support.moments import Killed, Moments
from tests.support.records import INSTANT

SOURCES = ("tokens", "sessions")
# Short, so that a history of days prunes.
RETENTION = RetentionPolicy(2, 1, 1, 0, 0, 0)
# An operation calls the store about so often.
MOST_CALLS = 16
HOURS = (1, 25, 49, 8 * 24)

Act = Literal[
    "write",
    "run",
    "restore",
    "undo",
    "pass",
    "prune",
    "delete row",
    "run --only tokens",
    "damage",
    "zero",
    "remove",
    "accept",
    "lose BACKUP_DIR",
    "adopt",
]
Fault = Literal["none", "kill", "write", "disk", "away", "once", "lost", "late"]


@dataclass(frozen=True)
class Step:
    """One thing that happens, to which installation, and what goes wrong at which moment.

    `pick` chooses among what there is: a set (0 is `latest`), a row, a number of hours.
    """

    act: Act
    who: int = 0
    pick: int = 0
    only: str | None = None
    fault: Fault = "none"
    at: int = 0
    listing: Listing = "whole"


# What the program does, in which something may go wrong; none of the first touches live data.
_BESIDE_LIVE = ("run", "run --only tokens", "prune", "adopt", "accept")
_OPERATIONS = (*_BESIDE_LIVE, "restore", "undo")

# What an undo may leave: the content of sources that it brings back; others stay as they are.
Outcome = dict[str, Content]


@dataclass
class Host:
    """An installation as the world knows it, beside the program."""

    name: str
    folder: Path
    owed: dict[str, set[str]]
    safe: dict[str, SafeRows]
    damaged: dict[str, list[bytes]]
    # What the next undo may leave, and which set the last restore, that did not end, restored.
    undone: list[Outcome] = field(default_factory=lambda: [{}])
    unfinished: str | None = None
    restoring: str | None = None
    # What an undo that did not end had replaced, which the next one finishes.
    half: Outcome = field(default_factory=dict)
    service: BackupService | None = None
    open: ExitStack = field(default_factory=ExitStack)

    def live(self, source: str) -> Path:
        """The place of a database."""
        return self.folder / "data" / f"{source}.db"

    def contents(self) -> dict[str, Content]:
        """What is live."""
        return {source: content_of(self.live(source), source) for source in SOURCES}


class World:
    """Two installations on one store; `happen` lets a step happen, and judges what is then."""

    def __init__(self, folder: Path, moments: Moments) -> None:
        self.clock = FixedClock(INSTANT)
        self._moments = moments
        self.store = ModelStore(self.clock, moments)
        self.judge = StoreJudge(self.store.objects, self.clock.now)
        self.store.before_delete = self.judge.note_delete
        self._rows = 0
        self._injected: dict[str, set[str]] = {}
        self.hosts = [self._host(folder / name, name) for name in ("production", "staging")]
        for host in self.hosts:
            self._write(host)
        self.happen(Step("run"))
        self.happen(Step("write"))

    def close(self) -> None:
        """Close what is open."""
        for host in self.hosts:
            host.open.close()

    def _host(self, folder: Path, name: str) -> Host:
        data = folder / "data"
        data.mkdir(parents=True)
        return Host(
            name,
            folder,
            {source: set() for source in SOURCES},
            {
                source: SafeRows(data / f"{source}.db", data / "backups", self.clock.now)
                for source in SOURCES
            },
            {source: [] for source in SOURCES},
        )

    # --- what happens -------------------------------------------------------------------

    def happen(self, step: Step) -> None:
        """Let a step happen; raise `Broken` if a promise is broken."""
        host = self.hosts[step.who]
        self.clock.advance(seconds=1)
        service = self._service(host)
        self.judge.actor = service.directory.instance()
        self._injected = {source: set() for source in SOURCES}
        before = host.contents()
        if step.act == "restore":
            host.restoring = None
        if step.act in _OPERATIONS:
            self._arm(host, step)
        run: Run | None = None
        died = refused = False
        try:
            run = self._acts(step.act)(host, service, step)
        except Killed:
            died = True
        except NothingToUndo:
            refused = True
        except AppError:
            refused = step.act != "undo"  # one that cannot begin changes nothing
        finally:
            self._moments.disarm()
            self.store.recover()
        if died:
            host.open.close()
            host.service = None
        self._judge_live(host, step, before, None if died or refused else run, refused=refused)
        self._judge_rows(host)
        self.judge.judge()

    def _service(self, host: Host) -> BackupService:
        if host.service is None:
            sources = [
                Source(source, host.live(source), volatile=source == "sessions")
                for source in SOURCES
            ]
            bench = host.open.enter_context(
                open_bench(
                    host.folder,
                    self.store,
                    sources=sources,
                    clock=self.clock,
                    retention=RETENTION,
                    busy_timeout=0.2,
                )
            )
            host.service = bench.service
        return host.service

    def _arm(self, host: Host, step: Step) -> None:
        self.store.listing = step.listing
        acts: dict[Fault, Callable[[], object]] = {
            "kill": self._moments.kill,
            "write": lambda: self._write(host, injected=True),
            "disk": self._moments.fill_disk,
        }
        match step.fault:
            case "none":
                pass
            case "kill" | "write" | "disk":
                self._moments.arm(step.at, acts[step.fault])
            case fault:
                self.store.fail(fault, step.at % MOST_CALLS)

    def _acts(self, act: Act) -> Callable[[Host, BackupService, Step], Run | None]:
        return {
            "write": lambda host, _service, _step: self._write(host),
            "delete row": self._delete_row,
            "pass": self._pass,
            "run": self._run,
            "run --only tokens": self._run,
            "prune": self._prune,
            "restore": self._restore,
            "undo": lambda _host, service, _step: service.undo.begin(self._report).execute(),
            "adopt": self._adopt,
            "accept": self._accept,
            "damage": self._harm,
            "zero": self._harm,
            "remove": self._harm,
            "lose BACKUP_DIR": self._lose_directory,
        }[act]

    def _report(self, progress: Progress) -> None:
        self._moments.go_through(f"progress {progress.stage}")

    def _write(self, host: Host, *, injected: bool = False) -> None:
        """The bot commits a row to each database; it begins one anew where there is none."""
        row = f"{host.name}-{self._rows:04d}"
        self._rows += 1
        for source in SOURCES:
            path = host.live(source)
            if injected and not (path.exists() and path.stat().st_size):
                continue
            try:
                with closing(connect(path, "rw" if injected else "rwc")) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
                    connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {source}(key TEXT PRIMARY KEY, value)"
                    )
                    connection.execute(f"INSERT INTO {source} VALUES (?, 'a secret')", (row,))
            except sqlite3.Error:
                continue  # the bot was not told that it is committed
            host.owed[source].add(row)
            if injected:
                self._injected[source].add(row)

    def _delete_row(self, host: Host, _service: BackupService, step: Step) -> None:
        for source in SOURCES:
            found = content_of(host.live(source), source)
            if isinstance(found, frozenset) and found:
                row = sorted(found)[step.pick % len(found)]
                with closing(connect(host.live(source))) as connection:
                    connection.execute(f"DELETE FROM {source} WHERE key = ?", (row,))
                host.owed[source].discard(row)

    def _pass(self, _host: Host, _service: BackupService, step: Step) -> None:
        self.clock.advance(hours=HOURS[step.pick % len(HOURS)])

    def _run(self, host: Host, service: BackupService, step: Step) -> Run:
        before = host.contents()
        only = "tokens" if step.act == "run --only tokens" else None
        trigger: Literal["manual", "change"] = "change" if step.pick % 3 == 1 else "manual"
        run = service.backup.begin(trigger, only=only, progress=self._report).execute()
        made = next((one for one in self.judge.sets() if one.id == run.set_id), None)
        if run.status == "succeeded":
            if made is None:
                refuse(f"run {run.id} succeeded, and there is no set {run.set_id}")
            for source in made.objects:
                lost = _rows(before[source]) - self.judge.rows(made, source)
                if lost:
                    refuse(f"set {made.id} lacks {lost} of {source}")
        return run

    def _prune(self, _host: Host, service: BackupService, _step: Step) -> Run:
        return service.prune.begin(progress=self._report).execute()

    def _restore(self, host: Host, service: BackupService, step: Step) -> Run | None:
        sets = self.judge.sets()
        chosen = "latest" if step.pick == 0 or not sets else sets[(step.pick - 1) % len(sets)].id
        plan = service.restore.plan(chosen, only=step.only)
        host.restoring = plan.backup_set.id
        return service.restore.begin(plan, progress=self._report).execute()

    def _adopt(self, host: Host, service: BackupService, step: Step) -> None:
        other = self.hosts[1 - step.who]
        service.adoption.adopt(self._service(other).directory.instance())

    def _accept(self, _host: Host, service: BackupService, _step: Step) -> None:
        made = service.own_sets.newest_made()
        if made is not None:
            service.acceptance.accept(made.id)

    def _harm(self, host: Host, _service: BackupService, step: Step) -> None:
        """The disk, or somebody, does something to a database; its rows are not owed any more."""
        source = step.only or "tokens"
        path, found = host.live(source), content_of(host.live(source), source)
        if found is None:
            return
        host.owed[source] -= _rows(found)
        if step.act == "remove":
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            host.damaged[source].clear()
        elif isinstance(found, frozenset):
            body = path.read_bytes()
            path.write_bytes(b"" if step.act == "zero" else b"no database" + body[11:])
            os.utime(path, (0, 0))  # nobody is about to fill it
            if step.act == "damage":  # whoever writes fills one with zero bytes
                host.damaged[source].append(hashlib.sha256(path.read_bytes()).digest())

    def _lose_directory(self, host: Host, service: BackupService, _step: Step) -> None:
        """`BACKUP_DIR` is deleted while the app is down; with it goes what an undo needs."""
        host.open.close()
        host.service = None
        rmtree(service.directory.path)
        for source in SOURCES:
            live = host.live(source)
            host.owed[source] &= _rows(content_of(live, source)) | host.safe[source].look()[0]
        host.undone, host.unfinished, host.half = [{}], None, {}

    # --- what must be true --------------------------------------------------------------

    def _judge_rows(self, host: Host) -> None:
        for source in SOURCES:
            safe, past = host.safe[source].look()
            live = _rows(content_of(host.live(source), source))
            host.owed[source] -= past - safe - live
            lost = host.owed[source] - live - safe
            if lost:
                refuse(f"{sorted(lost)} of {source} on {host.name} is nowhere")
            for digest in host.damaged[source]:
                if not host.safe[source].holds_bytes(digest):
                    refuse(f"the damaged {source}.db on {host.name} is nowhere")

    def _judge_live(
        self, host: Host, step: Step, before: Outcome, run: Run | None, *, refused: bool
    ) -> None:
        after = {
            source: found - self._injected[source] if isinstance(found, frozenset) else found
            for source, found in host.contents().items()
        }
        replaced: Outcome = {}
        for source in SOURCES:
            found, live = before[source], host.contents()[source]
            # What was committed before the switch, and is not live since.
            first = self._injected[source] - _rows(live)
            replaced[source] = frozenset(_rows(found) | first) if first else found
        changed = {
            source: replaced[source] for source in SOURCES if after[source] != before[source]
        }
        for source in SOURCES:
            if step.act in _OPERATIONS and before[source] is not None and after[source] is None:
                refuse(f"{step.act} leaves no {source} on {host.name}")
        if step.act == "restore":
            self._judge_restore(host, step, run, changed, replaced, before, after)
        elif step.act == "undo":
            self._judge_undo(host, run, changed, replaced, before, after, refused=refused)
        elif step.act in _BESIDE_LIVE and changed:
            refuse(f"{step.act} changed {', '.join(changed)}")

    def _judge_restore(
        self,
        host: Host,
        step: Step,
        run: Run | None,
        changed: Outcome,
        replaced: Outcome,
        before: Outcome,
        after: Outcome,
    ) -> None:
        back: Outcome = {source: found for source, found in changed.items() if found is not None}
        made = next((one for one in self.judge.sets() if one.id == host.restoring), None)
        if made is None:  # it was not even planned
            return
        sources = [one for one in made.objects if step.only in (None, one)]
        if run is not None and run.status == "succeeded":
            for source in sources:
                if after[source] != self.judge.rows(made, source):
                    refuse(f"restored {source}, and it is not as in {made.id}")
                if replaced[source] is not None:
                    back[source] = replaced[source]
            again = [one for one in host.undone if host.unfinished == made.id]
            parts = [{source: one[source] for source in sources if source in one} for one in again]
            host.undone = [back, *({**back, **one} for one in (*again, *parts))]
            host.unfinished, host.half = None, {}
            return
        again = [one for one in host.undone if host.unfinished == made.id]
        # Of what was as in the set before, nobody can see whether it was switched.
        same = [one for one in sources if before[one] == self.judge.rows(made, one)]
        found = [{**one, **back} for one in (({}, *again) if changed else host.undone)]
        for source in same:  # if it was, what an earlier restore replaced is not undone any more
            found += [{**one, source: replaced[source]} for one in ({}, *again, *found)]
        if changed or same:
            host.undone, host.unfinished, host.half = found, made.id, {}

    def _judge_undo(
        self,
        host: Host,
        run: Run | None,
        changed: Outcome,
        replaced: Outcome,
        before: Outcome,
        after: Outcome,
        *,
        refused: bool,
    ) -> None:
        outcomes = [{**before, **one} for one in host.undone]
        # What one that did not end has put back is in use again: what is written there stays.
        for source in host.half:
            if isinstance(before[source], frozenset):
                outcomes += [{**one, source: before[source]} for one in outcomes]
        back: Outcome = {source: found for source, found in changed.items() if found is not None}
        # What was written to it just before is not live any more: it was switched for the same.
        back |= {
            source: found
            for source, found in replaced.items()
            if source not in changed and found != before[source]
        }
        if run is not None and run.status == "succeeded":
            if after not in outcomes:
                refuse(f"undo on {host.name} brings {_show(after)}, not {_show_all(outcomes)}")
            # Of what was as it is now, nobody can see whether it was switched.
            same: Outcome = {
                source: before[source]
                for one in host.undone
                for source in one
                if after[source] == before[source] is not None
            }
            found = [{**host.half, **back}, {**back, **host.half}]
            host.undone = [*found, *({**same, **one} for one in found if same)]
            host.unfinished, host.half = None, {}
        elif refused:
            if before not in outcomes:
                refuse(f"there is nothing to undo, and it should bring {_show_all(outcomes)}")
        elif changed:
            part = any(
                all(after[source] in (before[source], one[source]) for source in SOURCES)
                for one in outcomes
            )
            if not part:
                refuse(f"an undo that ended brings {_show(after)}, not {_show_all(outcomes)}")
            if after in outcomes:  # it may be over
                host.undone = [*host.undone, back]
            host.half = {**back, **host.half}
            host.unfinished = host.restoring


def _rows(content: Content) -> frozenset[str]:
    return content if isinstance(content, frozenset) else frozenset()


def _show(outcome: Outcome) -> str:
    return json.dumps(
        {
            source: sorted(found) if isinstance(found, frozenset) else repr(found)[:16]
            for source, found in outcome.items()
        }
    )


def _show_all(outcomes: Sequence[Outcome]) -> str:
    return " or ".join(map(_show, outcomes))
