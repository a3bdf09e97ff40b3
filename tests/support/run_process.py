"""A backup run in a process of its own: to be killed at a moment of it, or on a host in need.

It prints one line of JSON: how the run ended, and the moments that it passed. A moment is a
report of progress, or a step on the file system that Python audits.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backups.model import Progress, Source
from shared.clock import SystemClock
from shared.errors import AppError
from shared.store.directory import DirectoryStore
from tests.support.bench import open_bench
from tests.support.warm_python import run_cold, run_warm

NOBODY = 65534
_AUDITED = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "sqlite3.connect"}


@dataclass(frozen=True)
class Outcome:
    """`status` and `code` are None when the process was killed, or could not begin a run."""

    exit_code: int
    status: str | None
    code: str | None
    moments: list[str]
    output: str


def run_apart(
    folder: Path,
    *,
    kill_at: int | None = None,
    kill_with: signal.Signals = signal.SIGKILL,
    as_nobody: bool = False,
    open_files: int | None = None,
    small_disk: Path | None = None,
    fill_in_stage: str | None = None,
) -> Outcome:
    """A run over the databases in `folder`, with the `BACKUP_DIR` and the store beside them.

    It is killed at its moment number `kill_at`. It runs as another user, with few open files
    beyond those of its start, or with a disk of 2 MB on `small_disk`, which is filled when
    the run enters a stage.
    """
    command = [sys.executable, "-m", "tests.support.run_process"]
    if small_disk is not None:
        # What is there is taken along: runs.db and the lock files of earlier runs.
        mount = (
            'cp -a "$0" "$0.kept" && mount -t tmpfs -o size=2m none "$0" && cp -a "$0.kept/." "$0"'
            ' && "$@"; code=$?; rm -rf "$0.kept"; exit $code'
        )
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        command = [*unshare, "sh", "-c", mount, str(small_disk), *command]
    order = {
        "folder": str(folder),
        "kill_at": kill_at,
        "kill_with": int(kill_with),
        "as_nobody": as_nobody and os.geteuid() == 0,
        "open_files": open_files,
        "fill": str(small_disk) if small_disk else None,
        "fill_in_stage": fill_in_stage,
    }
    run = run_warm if small_disk is None else run_cold
    done = run([*command, json.dumps(order)])
    told: dict[str, Any] = {"status": None, "code": None, "moments": []}
    if done.returncode == 0:
        told = json.loads(done.stdout.splitlines()[-1])
    return Outcome(
        done.returncode, told["status"], told["code"], told["moments"], done.stdout + done.stderr
    )


def _main(order: dict[str, Any]) -> None:
    moments: list[str] = []
    counting = False
    folder = Path(order["folder"])

    def pass_moment(name: str) -> None:
        if not counting:
            return
        moments.append(name)
        if len(moments) - 1 == order["kill_at"]:
            os.kill(os.getpid(), order["kill_with"])

    def on_audit(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in _AUDITED:
            pass_moment(event)

    def on_progress(progress: Progress) -> None:
        if not progress.source:
            if progress.stage == order["fill_in_stage"]:
                _fill(Path(order["fill"]))
            pass_moment(f"stage {progress.stage}")
        else:
            pass_moment(f"{progress.stage} {progress.source}")

    def on_sigterm(_signal: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)  # as the command line does

    signal.signal(signal.SIGTERM, on_sigterm)
    if order["as_nobody"]:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    sources = (
        Source("tokens", folder / "data" / "tokens.db"),
        Source("sessions", folder / "data" / "sessions.db", volatile=True),
    )
    store = DirectoryStore(folder / "store")
    status = code = None
    try:
        with open_bench(
            folder, store, clock=SystemClock(), sources=sources, local_copies=0
        ) as bench:
            sys.addaudithook(on_audit)
            if order["open_files"] is not None:
                most = len(list(Path("/proc/self/fd").iterdir())) + order["open_files"]
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            counting = True
            run = bench.service.backup.begin(progress=on_progress).execute()
            counting = False
            status, code = run.status, run.error.code if run.error else None
    except AppError as error:
        code = error.code
    counting = False
    print(json.dumps({"status": status, "code": code, "moments": moments}))


def _fill(folder: Path) -> None:
    for size in (65536, 4096, 512, 1):
        try:
            with (folder / f"filler-{size}").open("ab", buffering=0) as file:
                while file.write(bytes(size)):
                    pass
        except OSError:
            continue


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
