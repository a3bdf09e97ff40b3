"""A host in a process of its own, which reads a store in which somebody plants documents.

It gets one line of JSON for each document, on its standard input, and answers with one: the most
memory that it took above idle, what it raised that is no error of ours, and what it wrote where.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backups.model import BackupSet, Source
from backups.view import documents, report, restore_text, text
from shared.errors import AppError
from shared.printable import printable_lines
from shared.store.directory import DirectoryStore
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.records import INSTANT

REPOSITORY = Path(__file__).resolve().parents[2]
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Reading:
    """What reading a store with one planted document took; `raised` has a traceback, or nothing."""

    above_idle: int
    raised: str
    written: list[str]
    latest: str


class Reader:
    """The process, for the length of a `with` block; the store is `folder/store`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.planted_process", str(self._folder)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def read(self, key: str, body: bytes) -> Reading:
        """Plant an object, let the host read all that it reads of a store, and remove it again."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"key": key, "body": base64.b64encode(body).decode()})
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return Reading(**json.loads(self._process.stdout.readline()))


def _memory(name: str) -> int:
    """`VmRSS`, or `VmHWM`, the most of it since the last `clear_refs`, in bytes (proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def _reads(bench: Bench) -> Iterator[Callable[[], object]]:
    service = bench.service
    catalogue = service.catalogue
    now = service.clock.now()

    yield catalogue.refresh
    yield service.own_sets.refresh
    yield service.own_sets._writers.look
    yield lambda: printable_lines(text.sets(_sets(bench), more=False))
    yield lambda: json.dumps(documents.sets_document(_sets(bench), more=False))
    yield lambda: printable_lines(text.status(service.status(), now))
    yield lambda: json.dumps(documents.status_document(service.status()))
    yield catalogue.drill_reports
    yield catalogue.asides
    yield lambda: list(catalogue.points())
    yield catalogue.proofs
    yield lambda: [printable_lines(one.message) for one in catalogue.unread.warnings()]
    yield lambda: printable_lines(restore_text.plan(service.restore.plan(), to=None, ask=True))
    yield lambda: printable_lines(report.report(service.report("90d")))
    yield service.own_sets.plan_prune
    for planted in _planted(bench):
        yield partial(catalogue.get, planted)
        yield partial(_shown_plan, bench, planted)


def _shown_plan(bench: Bench, set_id: str) -> str:
    plan = bench.service.restore.plan(set_id)
    return printable_lines(restore_text.plan(plan, to=None, ask=True))


def _planted(bench: Bench) -> list[str]:
    return [*bench.service.catalogue.unread.sets(), *(one.id for one in _sets(bench))]


def _sets(bench: Bench) -> list[BackupSet]:
    return list(bench.service.catalogue.sets())


def _read(bench: Bench, key: str, body: bytes, written: list[str]) -> Reading:
    path = bench.folder / "store" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    del body
    written.clear()
    Path("/proc/self/clear_refs").write_text("5")
    written.clear()
    idle = _memory("VmRSS")
    raised = ""
    try:
        for read in _reads(bench):
            with suppress(AppError):
                read()
    except Exception:
        raised = traceback.format_exc()
    above_idle = _memory("VmHWM") - idle
    strays = list(written)
    latest = ""
    with suppress(AppError):
        found = bench.service.catalogue.newest_protecting()
        latest = found.id if found else ""
    path.unlink()
    bench.service.catalogue.refresh()
    return Reading(above_idle, raised, strays, latest)


def _main(folder: Path) -> None:
    written: list[str] = []

    def audit(event: str, details: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(details[0], str) and details[2] & _WRITES:
            written.append(details[0])

    sources = tuple(Source(one, folder / "data" / f"{one}.db") for one in ("tokens", "sessions"))
    store = DirectoryStore(folder / "store")
    clock = FixedClock(INSTANT)
    with open_bench(folder, store, directory="reader", sources=sources, clock=clock) as bench:
        for read in _reads(bench):
            with suppress(AppError):
                read()
        sys.addaudithook(audit)
        for line in sys.stdin:
            asked = json.loads(line)
            found = _read(bench, asked["key"], base64.b64decode(asked["body"]), written)
            print(json.dumps(vars(found)), flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
