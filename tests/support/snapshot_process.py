"""Taking snapshots in a process of its own: as another user, or onto a small disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backups.model import Progress, Source
from backups.sources.snapshot import take_snapshots
from shared.clock import SystemClock
from shared.errors import AppError
from tests.support.warm_python import run_cold, run_warm

NOBODY = 65534


def snapshot_in_process(
    sources: Mapping[str, Path],
    into: Path,
    *,
    as_nobody: bool = False,
    disk_megabytes: int | None = None,
    fill_disk: bool = False,
) -> dict[str, Any]:
    """Take snapshots into `into`; `error` (null, or its members) and what is told of `files`.

    With `as_nobody`, root becomes another user first; others stay who they are. With
    `disk_megabytes`, a disk of that size is mounted on `into`, seen by that process alone,
    and `fill_disk` leaves no room on it once the copying has begun.
    """
    command = [sys.executable, "-m", "tests.support.snapshot_process"]
    if disk_megabytes is not None:
        mount = f'mount -t tmpfs -o size={disk_megabytes}m none "$0" && exec "$@"'
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        command = [*unshare, "sh", "-c", mount, str(into), *command]
    order = {
        "sources": {name: str(path) for name, path in sources.items()},
        "into": str(into),
        "as_nobody": as_nobody and os.geteuid() == 0,
        "fill_disk": fill_disk,
    }
    run = run_warm if disk_megabytes is None else run_cold
    done = run([*command, json.dumps(order)])
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _main(order: dict[str, Any]) -> dict[str, Any]:
    into = Path(order["into"])
    if order["as_nobody"]:
        # Only now: the files of this program need not be open to other users.
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    def watch(_: Progress) -> None:
        if order["fill_disk"]:
            _fill(into)

    sources = [Source(name, Path(path)) for name, path in order["sources"].items()]
    try:
        taken = take_snapshots(sources, into, SystemClock(), watch, busy_timeout=1)
    except AppError as error:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        return {"error": told, "files": []}
    files = [
        {
            "source": file.source,
            "same_instant": file.same_instant,
            "journal_mode": file.journal_mode,
            "rows": dict(file.facts.rows),
        }
        for file in taken.files
    ]
    return {"error": None, "files": files}


def _fill(folder: Path) -> None:
    try:
        with (folder / "filler").open("ab", buffering=0) as file:
            while file.write(bytes(65536)):
                pass
    except OSError:
        return


if __name__ == "__main__":
    print(json.dumps(_main(json.loads(sys.argv[1]))))
