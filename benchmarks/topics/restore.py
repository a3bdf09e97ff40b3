"""How long it takes until both databases are back: as files in a folder, and in a running app."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.contenders.contender import WHOLE, ByCommand
from benchmarks.contenders.field import SEALINGS, as_command, peers
from benchmarks.contenders.ours import InApp, Sealing
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import rounds, say, settle

TOPIC = "restore"
IN_PLACE = "in place, until the data is served again"
WITH_SAFETY_COPY = "in place, with what it replaced stored too"
NEXT_COMMIT = "the bot's next commit after it"
FROM_COPY = ", from the copies on this host"
_SIZES = 3
# From the store, as after the loss of the host.
_FROM_STORE = {"BACKUP_LOCAL_COPIES": "0"}


def measure(plan: Plan, place: Place, results: Results) -> None:
    """At the largest sizes: one backup each, then rounds of restores of it."""
    for megabytes in plan.sizes[-1:] if plan.quick else plan.sizes[-_SIZES:]:
        pair = place.pair(megabytes)
        large = plan.is_large(megabytes)
        few = large or plan.quick
        sealings: Sequence[Sealing] = ("plain", "zstd") if few else SEALINGS
        with ExitStack() as stack:
            everybody: list[ByCommand | InApp] = [
                stack.enter_context(closing(make(place, pair)))
                for make in (*peers(plan.programs), *as_command(sealings, _FROM_STORE))
            ]
            for one in everybody:
                one.prepare()
                one.backup()
            if not large:
                # A restore in place writes to the databases: to others than the rest restores.
                for more, whence in ((_FROM_STORE, ""), ({}, FROM_COPY)):
                    own = place.copy_of(pair)
                    stack.callback(shutil.rmtree, own.folder)
                    inside = InApp(place, own, "zstd", more=more)
                    inside.name += whence
                    everybody.append(stack.enter_context(closing(inside)))
            for who, counts in rounds(everybody, plan.runs_at(megabytes), warm_up=not few):
                settle(plan)
                for what, seconds in _restore(who, place).items():
                    say(f"  {megabytes:g} MB, {who.name}: {seconds:.3f} s {what}")
                    if not counts:
                        continue
                    if what == NEXT_COMMIT:
                        results.add(TOPIC, megabytes, who.name, what, "ms", [1000 * seconds])
                    else:
                        results.add(TOPIC, megabytes, who.name, what, "s", [seconds])


def _restore(one: ByCommand | InApp, place: Place) -> dict[str, float]:
    if isinstance(one, InApp):
        told = one.app.ask("restore")
        return {
            IN_PLACE: told["stages"]["keep"],
            WITH_SAFETY_COPY: told["whole"],
            NEXT_COMMIT: _commit(one.pair.sessions),
        }
    into = place.new_folder("restored")
    try:
        return {WHOLE: one.restore_command(into).run()}
    finally:
        shutil.rmtree(into)


def _commit(path: Path) -> float:
    """How long a transaction of one row takes, from its lock to its end; in seconds."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE sessions SET rowid = rowid WHERE rowid = 1")
        connection.execute("COMMIT")
        return time.perf_counter() - began
