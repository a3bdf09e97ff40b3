"""A leader whose shadows are on a small disk of their own, which somebody fills and empties.

`python -m tests.support.full_shadow_disk FOLDER FOLLOW`: a JSON document, see `main`. The disk is
mounted on `FOLDER/data/backups/follow`.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from backups.increments.wal.logs import Follow
from backups.scheduling.change_follower import ChangeFollower
from tests.support.bench import Bench
from tests.support.chains import all_rows
from tests.support.clock import FixedClock
from tests.support.databases import add_rows, make_sources
from tests.support.following import SECOND, chains_in, clock_of, following_bench, increments, rotate
from tests.support.records import INSTANT


def main(folder: Path, follow: Follow) -> None:
    """Print how the leader follows before, while and after its disk is full, and what is stored.

    `restored` says whether the newest point has all that is live.
    """
    sources = make_sources(folder / "data")
    states: dict[str, Any] = {}
    with (
        following_bench(folder, sources=sources, clock=FixedClock(INSTANT), follow=follow) as bench,
        closing(ChangeFollower(bench.service, SECOND)) as follower,
    ):
        bench.made()
        _steps(bench, follower)
        rotate(bench, "before")
        _steps(bench, follower)
        states["before"] = _state(bench)
        filler = folder / "data" / "backups" / "follow" / "filler"
        _fill(filler)
        add_rows(bench.tokens, 500)
        _steps(bench, follower)
        states["full"] = _state(bench)
        _steps(bench, follower, minutes=10)
        states["nothing changed"] = _state(bench)
        add_rows(bench.tokens, 500)
        _steps(bench, follower, minutes=2)
        states["more changed"] = _state(bench)
        filler.unlink()
        _steps(bench, follower)
        states["room"] = _state(bench)
        rotate(bench, "after")
        _steps(bench, follower)
        states["after"] = _state(bench)
        bench.restored(to=folder / "to")
        states["restored"] = all_rows(folder / "to" / "tokens.db") == all_rows(bench.tokens)
    print(json.dumps(states))


def _steps(bench: Bench, follower: ChangeFollower, *, minutes: int = 0) -> None:
    """Steps of some seconds, and then of that many minutes."""
    for seconds in (*[10] * 3, *[60] * minutes):
        clock_of(bench).advance(seconds=seconds)
        follower.step()


def _state(bench: Bench) -> dict[str, Any]:
    with closing(_Leader(bench)):
        status = bench.service.status()
    stopped = [one.message for one in status.health.warnings if one.code == "follow_stopped"]
    return {
        "follow": status.follow,
        "stopped": stopped,
        "sets": len(bench.stored_ids()),
        "chains": len(chains_in(bench)),
        "increments": len(increments(bench)),
    }


class _Leader:
    """Holds the lease of the leader, as the process does whose status this is."""

    def __init__(self, bench: Bench) -> None:
        lease = bench.directory.scheduler_lease.try_acquire()
        assert lease is not None
        bench.directory.scheduler_lease.announce()
        self._lease = lease

    def close(self) -> None:
        self._lease.release()


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])  # type: ignore[arg-type]
