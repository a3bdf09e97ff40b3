"""How long writers wait for the gate that makes both snapshots belong to one instant."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from backups.model import Source
from backups.service import ignore_progress
from backups.snapshot import take_snapshots
from benchmarks.databases import add_sessions, add_tokens, make_databases
from benchmarks.report import Measurement, percentile
from shared.clock import SystemClock

TOKENS, SESSIONS, TRANSACTIONS_A_SECOND = 10_000, 2_000, 200
TARGET_MILLISECONDS = 5.0


@dataclass(frozen=True)
class _Written:
    """One transaction of the writer: milliseconds until it had the lock, and in all."""

    began: float
    lock: float
    whole: float


@dataclass(frozen=True)
class _Trial:
    """What a writer met without and with snapshots, and how long each held the gate."""

    idle: Sequence[_Written]
    busy: Sequence[_Written]
    held: Sequence[float]


def measure(*, snapshots: int) -> Measurement:
    """Take `snapshots` of both databases while another process writes to them."""
    found = _trial(snapshots)
    waits = [one.lock for one in found.busy]
    return Measurement(
        "writers' longest wait for the gate",
        max(waits),
        "ms",
        TARGET_MILLISECONDS,
        {
            "same wait, p99": percentile(waits, 0.99),
            "same wait without snapshots, max": max(one.lock for one in found.idle),
            "gate held, max": max(found.held),
            "gate held, median": percentile(found.held, 0.5),
            "whole transaction, p99": percentile([one.whole for one in found.busy], 0.99),
            "whole transaction, max": max(one.whole for one in found.busy),
            "same without snapshots, p99": percentile([one.whole for one in found.idle], 0.99),
            "same without snapshots, max": max(one.whole for one in found.idle),
            "transactions during the snapshots": len(found.busy),
            "snapshots": len(found.held),
        },
    )


def _trial(snapshots: int) -> _Trial:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-gate-")))
        tokens_path, sessions_path = make_databases(folder)
        add_tokens(tokens_path, TOKENS)
        add_sessions(sessions_path, SESSIONS)
        sources = (Source("tokens", tokens_path), Source("sessions", sessions_path, volatile=True))
        writer = stack.enter_context(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.writer"),
                    *(str(tokens_path), str(sessions_path), str(TRANSACTIONS_A_SECOND)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(writer.kill)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        idle_from = time.monotonic()
        time.sleep(0.1 * snapshots)
        began = time.monotonic()
        held = [_snapshot(sources, folder / f"copy-{number}") for number in range(snapshots)]
        ended = time.monotonic()
        told, _ = writer.communicate("")
    written = [_Written(at, lock * 1000, whole * 1000) for at, lock, whole in json.loads(told)]
    return _Trial(
        [one for one in written if idle_from <= one.began < began],
        [one for one in written if began <= one.began < ended],
        held,
    )


def _snapshot(sources: Sequence[Source], into: Path) -> float:
    """Take one at a random moment between two transactions; milliseconds of holding the gate."""
    time.sleep(random.uniform(0, 4 / TRANSACTIONS_A_SECOND))
    into.mkdir()
    return take_snapshots(sources, into, SystemClock(), ignore_progress).gate_seconds * 1000
