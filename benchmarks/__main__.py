"""`python -m benchmarks [--quick]`: measure, print a table, write `benchmarks/results.json`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import gate, memory, restore, stall
from benchmarks.report import Measurement, table, write_json

RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """0 when every target is met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    quick = parser.parse_args().quick
    steps: tuple[tuple[str, Callable[[], Measurement]], ...] = (
        ("the gate", lambda: gate.measure(snapshots=5 if quick else 30)),
        (
            "the event loop",
            lambda: stall.measure(megabytes=10 if quick else 100, runs=2 if quick else 5),
        ),
        (
            "a restore",
            lambda: restore.measure(megabytes=10 if quick else 100, runs=2 if quick else 5),
        ),
        ("memory", lambda: memory.measure(megabytes=20 if quick else 1024)),
    )
    measurements = []
    for name, measure in steps:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        measurements.append(measure())
    command = "python -m benchmarks --quick" if quick else "python -m benchmarks"
    write_json(RESULTS, command, measurements)
    print(table(command, measurements))
    return 0 if all(found.met for found in measurements) else 1


if __name__ == "__main__":
    sys.exit(main())
