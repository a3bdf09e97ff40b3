"""`python -m benchmarks`: measure ours beside its peers, and show what was found.

Everything happens on 127.0.0.1 and in a folder that is removed in the end.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.budgets import budgets
from benchmarks.docs import write_docs
from benchmarks.picture import draw
from benchmarks.place import REPOSITORY, ROOM_IN_MEMORY, Place, open_place
from benchmarks.plan import VERSION, Plan, find_programs, missing_programs, versions_of
from benchmarks.report import host, report
from benchmarks.results import Results, read_results, write_results
from benchmarks.rounds import say
from benchmarks.topics import (
    answers,
    backup,
    bot,
    change,
    cost,
    following,
    points,
    polling,
    presence,
    restore,
    seconds,
    writers,
)
from shared.files import folder_in_memory

Measure = Callable[[Plan, Place, Results], None]
BROKE_OFF = "broke off"
RESULTS = Path(__file__).parent / "results.json"
PAGE, PICTURE = REPOSITORY / "docs" / "performance.md", REPOSITORY / "docs" / "performance.svg"
TOPICS: Mapping[str, Measure] = {
    "backup": backup.measure,
    "restore": restore.measure,
    "change": change.measure,
    "cost": cost.measure,
    "writers": writers.measure,
    "answers": answers.measure,
    "following": following.measure,
    "seconds": seconds.measure,
    "presence": presence.measure,
    "points": points.measure,
    "bot": bot.measure,
    "polling": polling.measure,
}
_SIZES, _QUICK_SIZES = (1.0, 10.0, 100.0, 1000.0), (1.0, 10.0)
_RUNS, _QUICK_RUNS = 5, 2


def main() -> int:
    """0; 1 when a topic broke off, or, with `--strict`, when a budget is not kept."""
    asked = parser()
    options = asked.parse_args()
    if options.shown:
        try:
            results = read_results(options.results)
        except (OSError, ValueError, KeyError, TypeError) as error:
            asked.error(f"{options.results} cannot be shown ({error!r}): measure without --shown")
    elif not os.access(options.results.parent, os.W_OK):  # said now, not after the measuring
        asked.error(f"--results: {options.results.parent} is no folder that can be written")
    if not options.shown:
        if not _has_packages():
            asked.error("measuring needs more packages than the app: make bench installs them")
        results = _measure(options)
        found = [one.document() for one in budgets(results)]
        write_results(options.results, {**results.document(), "budgets": found})
    text = report(results)
    print(text, end="")
    if options.write_docs:
        write_docs(PAGE, text)
        draw(results, PICTURE)
    broken = [one for one in budgets(results) if not one.kept]
    broke_off = any(BROKE_OFF in note for note in results.notes)
    return 1 if broke_off or (options.strict and broken) else 0


def _has_packages() -> bool:
    """Whether the packages of requirements-dev.txt are here, by the one that a store needs."""
    try:
        return find_spec("trustme") is not None
    except ModuleNotFoundError:
        return False


def _measure(options: argparse.Namespace) -> Results:
    programs = find_programs(options.peers)
    plan = Plan.of(
        sizes=options.sizes or (_QUICK_SIZES if options.quick else _SIZES),
        runs=options.runs or (_QUICK_RUNS if options.quick else _RUNS),
        programs=programs,
        quick=options.quick,
    )
    plan = replace(plan, target=options.target)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    results = Results(command, host(), versions_of(programs))
    results.notes += [
        f"not installed, left out: {name}" for name in missing_programs(programs, options.peers)
    ]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    results.notes.append(f"load averages of this host at the beginning: {load}")
    if folder_in_memory(ROOM_IN_MEMORY) is None:
        results.notes.append("too little room in memory: the store that yields used the disk, too")
    with open_place() as place:
        for topic in options.only or TOPICS:
            began = time.monotonic()
            say(f"{topic} ...")
            try:
                TOPICS[topic](plan, place, results)
            except Exception as error:  # what was measured is worth more than to end with it
                logging.exception("%s %s", topic, BROKE_OFF)
                results.notes.append(f"{topic} {BROKE_OFF}: {error!r}")
            say(f"{topic}: {time.monotonic() - began:.0f} s")
            write_results(options.results, results.document())
    return results


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    made.add_argument("--sizes", type=_sizes, metavar="MB,...", help="of tokens.db")
    made.add_argument("--only", nargs="+", choices=TOPICS, metavar="TOPIC", help=", ".join(TOPICS))
    made.add_argument(
        "--peers",
        type=_peers,
        default=tuple(VERSION),
        metavar="PROGRAM,...",
        help=f"beside whom, of {', '.join(VERSION)}; none",
    )
    made.add_argument("--runs", type=_count, metavar="N", help="rounds that are counted")
    made.add_argument(
        "--target",
        help="what is asked during a backup; the webhook, or /healthz where there is none",
    )
    made.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    made.add_argument("--shown", action="store_true", help="measure nothing, show the last again")
    made.add_argument("--write-docs", action="store_true", help="update docs/performance.*")
    made.add_argument("--strict", action="store_true", help="exit with 1 when a budget is over")
    return made


def _sizes(text: str) -> tuple[float, ...]:
    try:
        sizes = tuple(float(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or not all(0 < size < float("inf") for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: name megabytes above 0, such as 1,100")
    return sizes


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds, 1 or more")
    return int(text)


def _peers(text: str) -> tuple[str, ...]:
    named = () if text == "none" else tuple(text.split(","))
    if unknown := [name for name in named if name not in VERSION]:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)}: choose from {', '.join(VERSION)}, or none"
        )
    return named


if __name__ == "__main__":
    sys.exit(main())
