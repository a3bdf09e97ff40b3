"""What it costs that it is there: importing the app, its start, its memory when nothing happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import httpx2

from benchmarks.contenders.contender import Command
from benchmarks.contenders.ours import Installed
from benchmarks.databases import MEGABYTE
from benchmarks.measured import pss_of
from benchmarks.place import REPOSITORY, Place
from benchmarks.plan import VERSION, Plan
from benchmarks.results import Results
from benchmarks.rounds import rounds, say
from benchmarks.serving_app import ServingApp
from tests.support.app_process import free_port

TOPIC = "being there"
HEAVY = "heavy modules imported"
_IMPORTS = {
    "python alone": "pass",
    "import of FastAPI and uvicorn": "import fastapi, uvicorn",
    "import of boto3": "import boto3",
    "import of the app": "import app",
    "import of the app and boto3": "import app, boto3",
}
# What takes more than a few milliseconds or megabytes; found with -X importtime.
_MODULES = ("boto3", "botocore", "apprise", "rich", "pyrage", "zstandard", "markdown", "yaml")
_PATIENCE_SECONDS = 30
_QUIET_SECONDS = 3


def measure(plan: Plan, place: Place, results: Results) -> None:
    """Fresh processes, in turns."""
    installed = Installed.new(place, place.pair(min(plan.sizes)), "plain")
    with closing(installed):
        installed.command("run").run()  # or else the app begins with a backup
        for (name, code), counts in rounds(tuple(_IMPORTS.items()), plan.runs, warm_up=True):
            seconds = _python(code, installed).run()
            if counts:
                results.add(TOPIC, 0, name, "time", "ms", [1000 * seconds])
        _heavy(installed, results)
        for _ in range(plan.runs):
            _start(installed.settings, results)
        say(f"  idle memory after {_QUIET_SECONDS} s")
    for name, path in plan.programs.items():
        command = Command((path, *VERSION[name]), os.environ, place.folder)
        times = [1000 * command.run() for _ in range(plan.runs + 1)][1:]
        results.add(TOPIC, 0, f"start of {name}, for its version", "time", "ms", times)


def _python(code: str, installed: Installed) -> Command:
    return Command((sys.executable, "-c", code), installed.settings, REPOSITORY)


def _heavy(installed: Installed, results: Results) -> None:
    """Which of the heavy modules are there before anybody needs them."""
    code = "import sys, app; print(*sys.modules)"
    imported = {"import of the app": _python(code, installed).run_watched().output.split()}
    with closing(ServingApp(installed.settings)) as app:
        time.sleep(_QUIET_SECONDS)
        imported["the app, serving"] = app.ask("modules")["names"]
    for who, names in imported.items():
        found = [name for name in _MODULES if name in names]
        results.add(TOPIC, 0, who, HEAVY, "", [len(found)])
        results.notes.append(f"{who} has imported, of {', '.join(_MODULES)}: {found or 'none'}")


def _start(settings: Mapping[str, str], results: Results) -> None:
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)],
        cwd=REPOSITORY,
        env=dict(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_serves(port, process)
        served = time.perf_counter() - began
        time.sleep(_QUIET_SECONDS)
        memory = pss_of(Path(f"/proc/{process.pid}")) / MEGABYTE
    finally:
        process.kill()
        process.wait()
    results.add(TOPIC, 0, "the app, serving", "start until it serves", "ms", [1000 * served])
    results.add(TOPIC, 0, "the app, serving", "idle memory", "MiB", [memory])


def _wait_until_it_serves(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx2.TransportError):
                if client.get("/healthz").status_code == 200:
                    return
            time.sleep(0.005)
    raise RuntimeError("the app does not serve")
