"""How long the app's writers wait while a backup runs, against the same without one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from benchmarks.contenders.contender import ByCommand
from benchmarks.contenders.field import MakeByCommand, MakeInApp, as_command, in_app, peers
from benchmarks.contenders.floor import BarePut, BusyProcessor
from benchmarks.contenders.ours import InApp
from benchmarks.databases import Pair
from benchmarks.measured import CommandTooLong
from benchmarks.place import REPOSITORY, Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import say, settle
from benchmarks.samples import Sample, Window, percentile, within

TOPIC = "writers"
TRANSACTIONS_A_SECOND = 200
IDLE, BUSY = "idle", "busy"
P99, LOCK = "p99", "lock wait max"
PATIENCE_SECONDS = 10.0

_Control = BarePut | BusyProcessor


class Writer:
    """A process that writes to both databases; see `benchmarks.writer`."""

    def __init__(self, pair: Pair, first: int = 1) -> None:
        """Its transactions are numbered from `first`, which is odd: those of `tokens` are."""
        arguments = map(str, (pair.tokens, pair.sessions, TRANSACTIONS_A_SECOND, first))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.writer", *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "writing\n"

    def stop(self) -> tuple[list[Sample], list[Sample]]:
        """What each transaction waited for the lock, and took in all."""
        told, _ = self._process.communicate("")
        found = json.loads(told)
        return (
            [Sample(began, lock) for began, lock, _ in found],
            [Sample(began, whole) for began, _, whole in found],
        )

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def measure(plan: Plan, place: Place, results: Results) -> None:
    """For each contender, in turns: some time without a backup, and a backup.

    First beside a store that takes what it needs, as on one host with it, then out of its way.
    """
    _measure_all(plan, place, results)
    with place.yielding() as out_of_the_way:
        _measure_all(plan, out_of_the_way, results)


def _measure_all(plan: Plan, place: Place, results: Results) -> None:
    makers: tuple[MakeByCommand | MakeInApp | type[_Control], ...] = (
        *peers(plan.programs),
        *in_app(("plain", "zstd")),
        *as_command(("zstd",)),
        BarePut,
        BusyProcessor,
    )
    for make in makers:
        with own_copy(place, plan.busy_size) as pair, closing(make(place, pair)) as one:
            _measure(plan, one, place.named(one.name), results)


@contextmanager
def own_copy(place: Place, megabytes: float) -> Iterator[Pair]:
    """The live databases of that size again, for as long as the block lasts."""
    pair = place.copy_of(place.pair(megabytes))
    try:
        yield pair
    finally:
        shutil.rmtree(pair.folder)


def _measure(plan: Plan, one: ByCommand | InApp | _Control, who: str, results: Results) -> None:
    idle: list[Window] = []
    busy: list[Window] = []
    with closing(Writer(one.pair)) as writer:
        for _ in range(plan.busy_runs):
            one.prepare()
            settle(plan)
            began = time.monotonic()
            time.sleep(plan.idle_seconds)
            idle.append((began, time.monotonic()))
            began = time.monotonic()
            ended = _back_up(one)
            busy.append((began, time.monotonic()))
            if not ended:
                note = (
                    f"{who}: no backup ended within {PATIENCE_SECONDS:.0f} s while"
                    f" {TRANSACTIONS_A_SECOND} transactions a second were written"
                )
                say(f"  {note}")
                results.notes.append(note)
                break
        locks, wholes = writer.stop()
    say(f"  {who}: {sum(last - first for first, last in busy):.1f} s of backups")
    _note(results, plan, who, locks, wholes, ((IDLE, idle), (BUSY, busy)))


def _back_up(one: ByCommand | InApp | _Control) -> bool:
    """Whether it came to its end."""
    if isinstance(one, InApp | _Control):
        one.backup()
        return True
    try:
        one.backup_command().run(PATIENCE_SECONDS)
    except CommandTooLong:
        return False
    return True


def _note(
    results: Results,
    plan: Plan,
    who: str,
    locks: Sequence[Sample],
    wholes: Sequence[Sample],
    windows: Sequence[tuple[str, list[Window]]],
) -> None:
    """A value for each window, and the maximum over all of them."""
    for when, of in windows:
        each = [found for window in of if (found := within(wholes, [window]))]
        for name, part in (("p50", 0.5), (P99, 0.99)):
            values = [percentile(found, part) for found in each]
            results.add(TOPIC, plan.busy_size, who, f"{name} {when}", "ms", values)
        results.add(TOPIC, plan.busy_size, who, f"max {when}", "ms", [max(map(max, each))])
        longest = max(within(locks, of))
        results.add(TOPIC, plan.busy_size, who, f"{LOCK} {when}", "ms", [longest])
