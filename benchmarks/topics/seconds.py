"""A restore to one second: what its increments cost beside the full that they are made from."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass, replace

from backups.increments.follower import Follower
from backups.model import Source
from backups.scheduling.packer import Packer
from benchmarks.counting_proxy import CountingProxy
from benchmarks.databases import Pair, change_token
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import say
from benchmarks.topics.writers import own_copy
from shared.store.spaces import SpacesStore
from tests.support.bench import Bench
from tests.support.following import begun, clock_of, following, following_bench, step

TOPIC = "restore to one second"
ALONE, SINGLE, PACKED = "the full alone", "its increments, one by one", "its increments, packed"
TIME, EACH, REQUESTS = "end to end", "more for each increment", "requests"
STEP = "processor time of a step"
_MANY, _FEW = 3600, 50  # an hour of seconds
_SECONDS_A_STEP = 2.0
_PUT_OFF_SECONDS = (10.0, 60.0)
_MILLISECONDS = 1000


@dataclass(frozen=True)
class _Restores:
    """Restores into a folder, from the store, as often as the plan says."""

    bench: Bench
    proxy: CountingProxy
    place: Place
    megabytes: float
    results: Results
    runs: int

    def measure(self, who: str) -> float:
        """Restore the newest point; the median of the seconds that it takes."""
        times = []
        for number in range(self.runs + 1):
            into = self.place.new_folder("restored")
            self.proxy.take()
            began = time.perf_counter()
            self.bench.restored("latest", to=into)
            seconds = time.perf_counter() - began
            shutil.rmtree(into)
            if number:  # the first warms up
                times.append(seconds)
        say(f"  {self.megabytes:g} MB, {who}: {min(times):.2f} to {max(times):.2f} s")
        self.results.add(TOPIC, self.megabytes, who, TIME, "s", times)
        self.results.add(TOPIC, self.megabytes, who, REQUESTS, "", [self.proxy.take().total])
        return sorted(times)[len(times) // 2]


def measure(plan: Plan, place: Place, results: Results) -> None:
    """A full, then one token changed for each increment; then all of them in packs."""
    megabytes, many = plan.follow_sizes[-1], _FEW if plan.quick else _MANY
    folder = place.new_folder("seconds")
    with CountingProxy(place.endpoint) as proxy, own_copy(place, megabytes) as pair:
        settings = place.spaces(place.new_bucket())
        store = SpacesStore(replace(settings, endpoint=proxy.endpoint))
        sources = Source("tokens", pair.tokens), Source("sessions", pair.sessions, volatile=True)
        options = {"sources": sources, "local_copies": 0}
        with following_bench(folder, store, follow="wal", **options) as bench:
            restores = _Restores(bench, proxy, place, megabytes, results, min(plan.runs, 3))
            _measure(restores, pair, many)
    shutil.rmtree(folder)


def _measure(restores: _Restores, pair: Pair, many: int) -> None:
    bench, megabytes, results = restores.bench, restores.megabytes, restores.results
    with following(bench) as follower:
        begun(bench, follower)
        alone = restores.measure(ALONE)
        used = time.process_time()
        for _ in range(many):
            change_token(pair, restores.place.values)
            _store(bench, follower)
        each = _MILLISECONDS * (time.process_time() - used) / many
        results.add(TOPIC, megabytes, f"{many:,} increments", STEP, "ms", [each])
        whole = restores.measure(SINGLE)
        _note(results, megabytes, SINGLE, whole - alone, many)
        clock_of(bench).advance(hours=3)
        Packer(bench.service, threading.Event()).step()
        whole = restores.measure(PACKED)
        _note(results, megabytes, PACKED, whole - alone, many)


def _store(bench: Bench, follower: Follower) -> None:
    """A step that stores what has changed; it is put off where the one before took long."""
    for seconds in (_SECONDS_A_STEP, *_PUT_OFF_SECONDS):
        outcome = step(bench, follower, seconds)
        # When much of a small database has changed, a full is wished for; the chain goes on.
        if outcome == "stored" or (outcome == "needs_full" and follower.chain is not None):
            return
    raise RuntimeError(f"a change was not stored ({outcome}): nothing would be measured")


def _note(results: Results, megabytes: float, who: str, more: float, many: int) -> None:
    results.add(TOPIC, megabytes, who, EACH, "ms", [_MILLISECONDS * more / many])
