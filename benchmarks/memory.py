"""How much memory a run takes above what the idle program has.

`measure` starts this module as a process of its own, which opens the service as the app does.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

from backups.wiring import open_service
from benchmarks.installation import in_a_fresh_process, installed
from benchmarks.report import Measurement
from shared.settings import load_settings

TARGET_MEBIBYTES = 64.0


def measure(*, megabytes: int) -> Measurement:
    """Run one backup of that size."""
    with installed(megabytes=megabytes) as settings:
        found = in_a_fresh_process("benchmarks.memory", settings)
    return Measurement(
        f"peak memory above idle, {megabytes} MB",
        found["peak"] - found["idle"],
        "MiB",
        TARGET_MEBIBYTES,
        {
            "idle": found["idle"],
            "peak": found["peak"],
            "seconds of the run": found["seconds"],
            "stored bytes": found["bytes"],
        },
    )


def watch() -> dict[str, float]:
    """Run one backup; memory in MiB before it, and the most that there was until after it."""
    import app  # noqa: F401, PLC0415 - the idle program has the whole app in its memory

    with open_service(load_settings(os.environ)) as service:
        idle = _memory("VmRSS")
        began = time.perf_counter()
        run = service.begin_backup().execute()
        seconds = time.perf_counter() - began
        peak = _memory("VmHWM")
        assert run.status == "succeeded", run.error
        assert run.set_id is not None
        made = service.catalogue.get(run.set_id)
        stored = sum(one.bytes for one in made.objects)
    return {"idle": idle, "peak": peak, "seconds": seconds, "bytes": stored}


def _memory(name: str) -> float:
    """A line of `/proc/self/status`, which is in KiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    json.dump(watch(), sys.stdout)
