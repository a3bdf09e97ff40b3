"""How long a full backup takes, contender beside contender, in turns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from benchmarks.contenders.contender import Contender
from benchmarks.contenders.ours import AsCommand, InApp, Sealing
from benchmarks.contenders.scripts import Scripts
from benchmarks.databases import Pair
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results

TOPIC = "backup"
SEALINGS: tuple[Sealing, ...] = ("plain", "zstd", "zstd+age")


def measure(plan: Plan, place: Place, results: Results) -> None:
    """At every size: a round that is not counted, then `runs` rounds of everybody in turn."""
    for megabytes in plan.sizes:
        pair = place.pair(megabytes)
        with ExitStack() as stack:
            everybody = [
                stack.enter_context(closing(make(place, pair))) for make in contenders(plan)
            ]
            for number in range(plan.runs_at(megabytes) + 1):
                for one in turn(everybody, number):
                    settle()
                    times = one.backup()
                    _tell(one, megabytes, times)
                    if number:
                        for what, seconds in times.items():
                            results.add(TOPIC, megabytes, one.name, what, "s", [seconds])


def contenders(plan: Plan) -> Sequence[Callable[[Place, Pair], Contender]]:
    """Those that there are on this host."""
    found: list[Callable[[Place, Pair], Contender]] = []
    if aws := plan.programs.get("aws"):
        found += [
            lambda place, pair: Scripts(place, pair, aws),
            lambda place, pair: Scripts(place, pair, aws, at_once=True),
        ]
    for sealing in SEALINGS:
        found += [
            lambda place, pair, sealing=sealing: InApp(place, pair, sealing),
            lambda place, pair, sealing=sealing: AsCommand(place, pair, sealing),
        ]
    return found


def turn(everybody: Sequence[Contender], number: int) -> Sequence[Contender]:
    """Forward in one round and backward in the next, so that nobody always follows another."""
    return everybody if number % 2 else everybody[::-1]


def settle() -> None:
    """Write what the last one left for the disk, so that the next does not pay for it."""
    os.sync()


def _tell(one: Contender, megabytes: float, times: object) -> None:
    print(f"  {megabytes:g} MB  {one.name}: {times}", file=sys.stderr, flush=True)
