"""A backup after 1% of the rows have changed: time, and bytes that the bucket grows by."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing

from benchmarks.contenders.field import MakeByCommand, MakeInApp, as_command, in_app, peers
from benchmarks.databases import MEGABYTE, change_rows
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import rounds, say, settle

TOPIC = "after a change"
STORED = "stored"
CHANGED_PART = 0.01
_MOST_RUNS = 3


def measure(plan: Plan, place: Place, results: Results) -> None:
    """A full backup by each, then rounds of changes and backups without a new beginning."""
    megabytes = plan.busy_size
    shared = place.copy_of(place.pair(megabytes))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, shared.folder)
        makers: tuple[MakeByCommand | MakeInApp, ...] = (
            *peers(plan.programs),
            *in_app(("plain", "zstd")),
            *as_command(("zstd",)),
        )
        everybody = [stack.enter_context(closing(make(place, shared))) for make in makers]
        for one in everybody:
            one.prepare()
            one.backup()
        for one, counts in rounds(everybody, min(plan.runs, _MOST_RUNS), warm_up=not plan.quick):
            rows = change_rows(one.pair, CHANGED_PART, place.values)
            before = place.objects(one.bucket)
            settle(plan)
            one.prepare_again()
            times = one.backup()
            new = place.objects(one.bucket).items() - before.items()
            stored = sum(size for _, (size, _) in new) / MEGABYTE
            told = ", ".join(f"{seconds:.3f} s {what}" for what, seconds in times.items())
            say(f"  {one.name}, {rows} rows: {told}, {stored:.1f} MB")
            if counts:
                for what, seconds in times.items():
                    results.add(TOPIC, megabytes, one.name, what, "s", [seconds])
                results.add(TOPIC, megabytes, one.name, STORED, "MB", [stored])
