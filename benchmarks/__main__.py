"""`python -m benchmarks`: measure ours beside its peers, and show what was found."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.place import open_place
from benchmarks.plan import Plan, find_programs, versions_of
from benchmarks.report import host, table
from benchmarks.results import Results, write_results
from benchmarks.topics import backup

RESULTS = Path(__file__).parent / "results.json"
TOPICS = {"backup": backup.measure}


def main() -> int:
    """0 when all was measured."""
    options = _parser().parse_args()
    plan = Plan(
        sizes=options.sizes, runs=options.runs, programs=find_programs(), quick=options.quick
    )
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    results = Results(command, host(), versions_of(plan.programs))
    with open_place() as place:
        for topic in options.only or TOPICS:
            print(f"measuring {topic} ...", file=sys.stderr, flush=True)
            TOPICS[topic](plan, place, results)
    write_results(RESULTS, results.document())
    print(table(results))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--sizes", type=_sizes, default=(10, 100, 1000), help="10,100,1000")
    parser.add_argument("--only", nargs="+", choices=TOPICS, metavar="TOPIC")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="counted rounds")
    return parser


def _sizes(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
