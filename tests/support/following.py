"""A follower without a leader: steps of it, and what a chain in the store gives back."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from backups.format.chain import End, Head, load
from backups.format.chain_keys import (
    chain_id,
    chains_prefix,
    end_key,
    head_key,
    increment_key,
    parse_chain_key,
)
from backups.format.increment import Increment, line_of, load_line, split
from backups.increments.bodies import unfold
from backups.increments.compare import page_size_of
from backups.increments.follower import Follower, Outcome
from backups.increments.shadow import Shadow
from backups.scheduling.follower_parts import make_follower
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import write

SECOND = timedelta(seconds=1)


@contextmanager
def following_bench(
    folder: Path, store: Any = None, *, follow: str = "compare", **options: Any
) -> Iterator[Bench]:
    """An installation that follows changes, by comparison unless it is said."""
    with open_bench(
        folder, store, follow=follow, change_delay=SECOND, run_by="app", **options
    ) as bench:
        yield bench


@contextmanager
def following(bench: Bench, stopping: threading.Event | None = None) -> Iterator[Follower]:
    """A follower as the leader has one, which `stopping` ends."""
    with closing(make_follower(bench.service, SECOND, stopping)) as follower:
        yield follower


def clock_of(bench: Bench) -> FixedClock:
    """The clock of the service."""
    assert isinstance(bench.service.clock, FixedClock)
    return bench.service.clock


def step(bench: Bench, follower: Follower, seconds: float = 60) -> Outcome:
    """A step some time later: the pause after the computing of the one before is over."""
    clock_of(bench).advance(seconds=seconds)
    return follower.step()


def rotate(bench: Bench, value: str) -> None:
    """Write one token anew."""
    write(bench.tokens, "UPDATE tokens SET value = ? WHERE rowid = 1", value)


def begun(bench: Bench, follower: Follower) -> str:
    """Make a full, and begin its chain."""
    made = bench.made()
    assert step(bench, follower) in ("idle", "stored")
    assert follower.chain == chain_id(made.id, made.instance)
    return chain_id(made.id, made.instance)


def increments(bench: Bench) -> list[str]:
    """The keys of the stored increments."""
    return [key for key in bench.all_keys() if "/i/" in key]


def increment_of(bench: Bench, chain: str, number: int) -> Increment:
    """The line of a stored increment, which is marked."""
    key = increment_key(PREFIX, chain, number, sealed=False)
    line = line_of(bench.bytes_of(key), key)
    assert bench.service.config.marks.check(key, line).outcome == "valid"
    return load_line(line, key=key, chain=chain, number=number, kind="increment")


def end_of(bench: Bench, chain: str) -> End:
    """The stored end of a chain, which is marked."""
    key = end_key(PREFIX, chain)
    document = bench.bytes_of(key)
    assert bench.service.config.marks.check(key, document).outcome == "valid"
    return load(End, document, key=key, chain=chain)


def chains_in(bench: Bench) -> list[str]:
    """The chains that have a head in the store, oldest first."""
    keys = (parse_chain_key(PREFIX, one.key) for one in bench.store.list(chains_prefix(PREFIX)))
    return [key.chain for key in keys if key is not None and key.kind == "head"]


def replayed(bench: Bench, chain: str, into: Path, source: str = "tokens") -> list[Any]:
    """The rows of a source as a chain in the store has it at its end; each step is checked."""
    key = head_key(PREFIX, chain)
    head = load(Head, bench.bytes_of(key), key=key, chain=chain)
    full = bench.service.catalogue.get(head.set_id)
    (stored,) = (one for one in full.objects if one.source == source)
    path = into / f"{chain}-{source}.db"
    path.write_bytes(bench.bytes_of(stored.key))
    with closing(Shadow(path, page_size_of(path.read_bytes()[:100]))) as shadow:
        keys = [one for one in increments(bench) if f"/{chain}/" in one]
        for number, key in enumerate(keys, 1):
            line = increment_of(bench, chain, number)
            bodies = split(bench.bytes_of(key), line, key)
            for change, body in zip(line.sources, bodies, strict=True):
                if change.source == source:
                    shadow.apply(change, unfold(body, change, key))
    rows = rows_of(path, source)
    path.unlink()
    return rows


def rows_of(path: Path, table: str) -> list[Any]:
    """All rows of a table."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def killed_at(module: Any, name: str, act: Callable[[], object], *, call: int = 1) -> None:
    """Do `act` in a process of its own, which dies (kill -9) at a call of `module.name`."""
    pid = os.fork()
    if pid == 0:
        try:
            _die_at(module, name, call)
            act()
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(3)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"{name} was not called {call} times"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _die_at(module: Any, name: str, call: int) -> None:
    real, calls = getattr(module, name), []

    def die(*args: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    setattr(module, name, die)  # of a child, which dies by it
