"""Status, list and retention plan with 10,000 restore points, and what they ask the store."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from backups.format import naming
from backups.format.manifest import dump_manifest
from backups.host.catalogues import open_catalogue
from backups.host.directory import BackupDirectory
from backups.host.records import open_records
from backups.host.run_log import RunLog
from backups.model import BackupSet, Run
from backups.sets.catalogue import Catalogue
from backups.wiring import build_config, build_store
from benchmarks.contenders.ours import Installed
from benchmarks.counting_proxy import CountingProxy
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import say
from benchmarks.serving_app import ServingApp
from shared.clock import SystemClock
from shared.settings.load import load_settings

TOPIC = "restore points"
STATUS, RETENTION = "status", "retention plan"
LIST, FRESH_LIST = "list, from local records", "list, with a refresh from the store"
COMMAND = "status as a command, with process start"
REQUESTS_OF = "requests to the store: "
_ROUTES = {
    STATUS: "/admin/backups/status",
    FRESH_LIST: "/admin/backups/sets",
    RETENTION: "/admin/backups/prune",
}
_EVERY = timedelta(hours=1)
_RUNS = 10
_THREADS = 8


def measure(plan: Plan, place: Place, results: Results) -> None:
    """The routes of a serving app, and the command beside it."""
    count = plan.restore_points
    who = f"{count:,} restore points"
    with CountingProxy(place.endpoint) as proxy:
        through = place.through(proxy.endpoint)
        more = {"BACKUP_CHANGE_DELAY": "0"}  # it would make a set of its own
        installed = Installed.new(through, place.pair(min(plan.sizes)), "plain", more)
        with closing(installed):
            began = time.perf_counter()
            _fill(installed, place, count)
            say(f"  {who} made in {time.perf_counter() - began:.0f} s")
            with (
                closing(ServingApp(installed.settings)) as app,
                _client(app, installed) as client,
            ):
                _wait_until_scheduled(client)
                for what, route in _ROUTES.items():
                    _ask(client, route, count if what == STATUS else None)
                    proxy.take()
                    times = [_timed(lambda path=route: _ask(client, path)) for _ in range(_RUNS)]  # type: ignore[misc]
                    asked = proxy.take().total / _RUNS
                    results.add(TOPIC, 0, who, what, "ms", [1000 * one for one in times])
                    results.add(TOPIC, 0, who, f"{REQUESTS_OF}{what}", "", [asked])
                times = [app.ask("list_page")["seconds"] for _ in range(_RUNS)]
                results.add(TOPIC, 0, who, LIST, "ms", [1000 * one for one in times])
                command = installed.command("status")
                times = [command.run() for _ in range(plan.runs)]
                results.add(TOPIC, 0, who, COMMAND, "ms", [1000 * one for one in times])


def _fill(installed: Installed, place: Place, count: int) -> None:
    """Sets in the store and in the catalogue, an hour between two; their objects are small."""
    settings = load_settings(installed.settings)
    directory = BackupDirectory(settings.backup.directory)
    marks, prefix = build_config(settings).marks, settings.backup.prefix
    documents, keys = dict[str, bytes](), dict[str, bytes]()
    for made, document in _sets(directory.instance(), count):
        key = naming.manifest_key(prefix, made.id)
        documents[made.id] = keys[key] = marks.sign(key, document)
        keys |= {stored.key: b"x" * stored.bytes for stored in made.objects}
    client = place.server.client()
    with ThreadPoolExecutor(_THREADS) as pool:
        puts = (
            pool.submit(client.put_object, Bucket=installed.bucket, Key=key, Body=document)
            for key, document in keys.items()
        )
        for put in list(puts):
            put.result()
    # In memory: 10,000 commits are waited for on a disk, and are not what is measured.
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as name:
        store = build_store(settings)
        with (
            closing(open_records(Path(name))) as records,
            closing(open_catalogue(Path(name), store, prefix, records)) as known,
        ):
            catalogue = Catalogue(known, store, prefix, SystemClock(), marks=marks)
            for set_id, document in documents.items():
                catalogue.add_manifest(set_id, document)
            catalogue.note_contact()
            _note_run(RunLog(records), max(documents))
        shutil.copytree(name, directory.path, dirs_exist_ok=True)


def _note_run(log: RunLog, set_id: str) -> None:
    """A complete backup, so that the app owes none; the retention after it would go on for long."""
    at = naming.instant_of(set_id)
    run = Run(f"{set_id}-00000000", "backup", "scheduled", "running", at)
    log.start(run)
    log.finish(replace(run, status="succeeded", finished_at=at, set_id=set_id))


def _sets(instance: str, count: int) -> Iterator[tuple[BackupSet, bytes]]:
    """Sets and their manifests."""
    from tests.support.records import a_set, a_stored_object  # noqa: PLC0415 - not for `--help`

    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    for number in range(count):
        at = newest - number * _EVERY
        objects = tuple(
            a_stored_object(source, at, key=naming.data_key("backups/", source, at, dated=False))
            for source in ("tokens", "sessions")
        )
        made = a_set(at, instance=instance, objects=objects)
        yield (
            made,
            dump_manifest(made, application="benchmarks", sqlite=sqlite3.sqlite_version),
        )


def _client(app: ServingApp, installed: Installed) -> httpx2.Client:
    return httpx2.Client(
        base_url=f"http://127.0.0.1:{app.port}",
        headers={"Authorization": f"Bearer {installed.settings['ADMIN_TOKEN']}"},
        timeout=120,
        trust_env=False,
    )


def _wait_until_scheduled(client: httpx2.Client) -> None:
    """The scheduler has refreshed the catalogue at its start, and is quiet now."""
    while _ask(client, _ROUTES[STATUS])["schedule"]["owner"] is None:
        time.sleep(0.1)
    time.sleep(2)


def _ask(client: httpx2.Client, route: str, count: int | None = None) -> dict[str, Any]:
    answer = client.get(route)
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    if count is not None and document["restore_points"] != count:
        raise RuntimeError(f"the catalogue has {document['restore_points']} restore points")
    return document


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
