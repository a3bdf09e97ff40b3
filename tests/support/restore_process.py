"""A restore or an undo in a process of its own, which can be killed at any moment of it.

It prints `go`, does its work, and prints one line of JSON: `status`, and how many `moments` it
passed. A moment is a report of progress, or a step on the file system that Python audits: an
opening, renaming, linking, copying, removing of a file, or a connection of SQLite.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

from backups.model import Progress
from backups.wiring import open_service
from shared.settings.load import load_settings
from tests.support.installation import Installation
from tests.support.warm_python import WarmPopen

Act = Literal["restore", "undo"]

_AUDITED = {
    "open",
    "os.rename",
    "os.link",
    "os.remove",
    "os.mkdir",
    "os.chmod",
    "shutil.copyfile",
    "shutil.rmtree",
    "sqlite3.connect",
    "sqlite3.connect/handle",
}


@dataclass(frozen=True)
class Outcome:
    """How such a process ended: `moments` passed by one that was not killed, and their names."""

    killed: bool
    status: str | None
    moments: list[str]
    seconds: float
    errors: str


def run_apart(
    installation: Installation,
    act: Act,
    target: str = "latest",
    *,
    kill_at: int | None = None,
    kill_after: float | None = None,
) -> Outcome:
    """Run it to its end, or kill it: at moment number `kill_at`, or `kill_after` seconds."""
    order = {"act": act, "target": target, "kill_at": kill_at}
    with WarmPopen(
        [sys.executable, "-m", "tests.support.restore_process", json.dumps(order)],
        env=installation.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "go\n":
            raise AssertionError(process.stderr.read())
        if kill_after is not None:
            time.sleep(kill_after)
            process.send_signal(signal.SIGKILL)
        said, errors = process.communicate(timeout=60)
    killed = process.returncode == -signal.SIGKILL
    assert killed or process.returncode == 0, errors
    told: dict[str, Any] = (
        json.loads(said) if said else {"status": None, "moments": [], "seconds": 0.0}
    )
    return Outcome(killed, told["status"], told["moments"], told["seconds"], errors)


def _main(order: dict[str, Any]) -> None:
    moments: list[str] = []
    counting = False

    def pass_moment(name: str) -> None:
        if not counting:
            return
        moments.append(name)
        if len(moments) - 1 == order["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _AUDITED:
            pass_moment(event)

    def on_progress(progress: Progress) -> None:
        pass_moment(
            f"stage {progress.stage}"
            if not progress.total and not progress.source
            else f"{progress.stage} {progress.source} {progress.done}/{progress.total}"
        )

    settings = load_settings(dict(os.environ), for_app=True)
    with open_service(settings) as service:
        if order["act"] == "undo":
            started = service.undo.begin(on_progress)
        else:
            plan = service.restore.plan(order["target"])
            started = service.restore.begin(plan, progress=on_progress)
        sys.addaudithook(on_audit)
        print("go", flush=True)
        began = time.perf_counter()
        counting = True
        run = started.execute()
        counting = False
    seconds = time.perf_counter() - began
    print(json.dumps({"status": run.status, "moments": moments, "seconds": seconds}))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
