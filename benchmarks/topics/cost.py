"""What a backup and a restore take: memory, bytes read and written, bytes sent, requests."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace

from benchmarks.contenders.contender import ByCommand
from benchmarks.contenders.field import as_command, peers
from benchmarks.contenders.ours import AsCommand, InApp
from benchmarks.counting_proxy import Counted, CountingProxy
from benchmarks.databases import MEGABYTE
from benchmarks.measured import Spent, Traffic, memory_of, peak_memory, traffic_of
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import say

BACKUP, RESTORE = "cost of a backup", "cost of a restore"
MEMORY, READ, WRITTEN = "memory above idle", "read", "written"
SENT, RECEIVED, REQUESTS = "sent", "received", "requests"
STATUS, PROCESSOR = "cost of a status", "processor time"
# A restore then comes from the store, as with the others.
_FROM_STORE = {"BACKUP_LOCAL_COPIES": "0"}


def measure(plan: Plan, place: Place, results: Results) -> None:
    """Through a proxy that counts, once each: these do not vary as times do."""
    with CountingProxy(place.endpoint) as proxy:
        through = place.through(proxy.endpoint)
        for megabytes in plan.cost_sizes:
            if not plan.is_large(megabytes):  # there, what is asked is only whether ours grows
                makers = (*peers(plan.programs), *as_command(("plain", "zstd"), _FROM_STORE))
                for make in makers:
                    with closing(make(through, place.pair(megabytes))) as one:
                        _by_command(one, megabytes, proxy, through, results)
            for sealing in ("plain", "zstd"):
                with closing(InApp(through, place.pair(megabytes), sealing, primed=True)) as app:
                    _in_app(app, megabytes, proxy, results)


def _by_command(
    one: ByCommand, megabytes: float, proxy: CountingProxy, place: Place, results: Results
) -> None:
    say(f"  {megabytes:g} MB, {one.name}")
    one.prepare()
    proxy.take()
    spent = one.backup_command().run_watched()
    _note(BACKUP, megabytes, one, spent, proxy.take(), results)
    results.add(BACKUP, megabytes, one.name, PROCESSOR, "s", [spent.processor_seconds])
    into = place.new_folder("restored")
    spent = one.restore_command(into).run_watched()
    _note(RESTORE, megabytes, one, spent, proxy.take(), results)
    results.add(RESTORE, megabytes, one.name, PROCESSOR, "s", [spent.processor_seconds])
    shutil.rmtree(into)
    if isinstance(one, AsCommand):
        command = one.installed.command("status")
        # Here no app schedules, and a status that is not healthy is an error.
        by_cron = {**command.environment, "BACKUP_RUN_BY": "cron"}
        spent = replace(command, environment=by_cron).run_watched()
        results.add(STATUS, megabytes, one.name, PROCESSOR, "s", [spent.processor_seconds])


def _in_app(one: InApp, megabytes: float, proxy: CountingProxy, results: Results) -> None:
    """The first run of an app that serves: what it needs once is counted."""
    say(f"  {megabytes:g} MB, {one.name}")
    one.prepare()
    proxy.take()
    idle, before = memory_of(one.app.pid), traffic_of(one.app.pid)
    with peak_memory(one.app.pid) as peak:
        one.backup()
    traffic = traffic_of(one.app.pid) - before
    found = Spent(0.0, traffic, peak[0] - idle, "")
    _note(BACKUP, megabytes, one, found, proxy.take(), results)


def _note(
    topic: str,
    megabytes: float,
    one: ByCommand | InApp,
    spent: Spent,
    counted: Counted,
    results: Results,
) -> None:
    files = _of_files(spent.traffic, counted, in_go=not isinstance(one, InApp) and one.in_go)
    for what, unit, value in (
        (MEMORY, "MiB", spent.peak_memory / MEGABYTE),
        (READ, "MB", files.read / MEGABYTE),
        (WRITTEN, "MB", files.written / MEGABYTE),
        (SENT, "MB", counted.sent / MEGABYTE),
        (RECEIVED, "MB", counted.received / MEGABYTE),
        (REQUESTS, "", counted.total),
    ):
        results.add(topic, megabytes, one.name, what, unit, [value])
    for method, number in sorted(counted.requests.items()):
        results.add(topic, megabytes, one.name, f"{REQUESTS}: {method}", "", [number])


def _of_files(traffic: Traffic, counted: Counted, *, in_go: bool) -> Traffic:
    """Without the sockets, which Go programs read and write as they do files."""
    if not in_go:
        return traffic
    return traffic - Traffic(counted.received, counted.sent, 0)
