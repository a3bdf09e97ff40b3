"""How long a full backup takes, contender beside contender, in turns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing

from benchmarks.contenders.field import Make, as_command, floors, in_app, peers
from benchmarks.contenders.ours import InApp, Sealing
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import rounds, say, settle

TOPIC, STAGES = "backup", "stages"


def measure(plan: Plan, place: Place, results: Results) -> None:
    """At every size: a round that is not counted, unless they are large, then `runs` rounds."""
    for megabytes in plan.sizes:
        pair = place.pair(megabytes)
        with ExitStack() as stack:
            makers = contenders(plan, megabytes)
            everybody = [stack.enter_context(closing(make(place, pair))) for make in makers]
            warm_up = not plan.quick and not plan.is_large(megabytes)
            turns = rounds(everybody, plan.runs_at(megabytes), warm_up=warm_up)
            for one, counts in turns:
                one.prepare()
                settle(plan)
                times = one.backup()
                told = ", ".join(f"{seconds:.3f} s {what}" for what, seconds in times.items())
                say(f"  {megabytes:g} MB, {one.name}: {told}{'' if counts else ' (warming up)'}")
                if counts:
                    for what, seconds in times.items():
                        results.add(TOPIC, megabytes, one.name, what, "s", [seconds])
                    if isinstance(one, InApp):
                        for stage, seconds in one.stages.items():
                            results.add(STAGES, megabytes, one.name, stage, "s", [seconds])


def contenders(plan: Plan, megabytes: float) -> Sequence[Make]:
    """All of them at the middle size, at others those that are compared there."""
    both: tuple[Sealing, ...] = ("plain", "zstd")
    if plan.is_large(megabytes):
        return [*peers(plan.programs), *in_app(both), *floors()]
    if plan.quick or megabytes != plan.busy_size:
        return [*peers(plan.programs), *in_app(both), *as_command(both)]
    return [*peers(plan.programs, at_once=True), *in_app(), *as_command(), *floors()]
