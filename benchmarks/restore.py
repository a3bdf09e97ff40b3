"""How long a restore in place takes, from the command to data that is served again (the RTO).

`measure` starts this module as a process of its own, with the settings of an installation.
"""

from __future__ import annotations

import json
import os
import sys
import time

from backups.wiring import open_service
from benchmarks.installation import in_a_fresh_process, installed
from benchmarks.report import Measurement
from shared.settings import load_settings

TARGET_SECONDS = 2.0


def measure(*, megabytes: int, runs: int) -> Measurement:
    """Restore databases of that size from the S3 server and, apart, from local copies."""
    seconds = {}
    for copies in ("0", "2"):
        with installed(megabytes=megabytes) as settings:
            # The rows are like tokens, and were encrypted by nobody: there is no key to check.
            chosen = {
                **settings,
                "TOKEN_ENCRYPTION_KEYS": "",
                "BACKUP_LOCAL_COPIES": copies,
                "BACKUP_TIMEOUT": "600",
            }
            seconds[copies] = in_a_fresh_process("benchmarks.restore", chosen, str(runs))
    switched = sorted(seconds["0"]["switched"])
    return Measurement(
        f"restore in place (RTO), {megabytes} MB from the store",
        switched[len(switched) // 2],
        "s",
        TARGET_SECONDS,
        {
            "slowest": switched[-1],
            "median, from local copies": sorted(seconds["2"]["switched"])[runs // 2],
            "median, with what was replaced stored too": sorted(seconds["0"]["whole"])[runs // 2],
            "runs": runs,
        },
    )


def restore(runs: int) -> dict[str, list[float]]:
    """Seconds until the data is in place, and until the run with its safety copy is over."""
    switched, whole = [], []
    with open_service(load_settings(os.environ)) as service:
        made = service.begin_backup().execute()
        assert made.set_id is not None, made.error
        for _ in range(runs):
            began = time.perf_counter()
            stages: dict[str, float] = {}
            run = service.begin_restore(
                service.plan_restore(made.set_id),
                progress=lambda seen, at=stages: at.setdefault(seen.stage, time.perf_counter()),  # type: ignore[misc]
            ).execute()
            assert run.status == "succeeded", run.error
            whole.append(time.perf_counter() - began)
            switched.append(stages["keep"] - began)
    return {"switched": switched, "whole": whole}


if __name__ == "__main__":
    json.dump(restore(int(sys.argv[1])), sys.stdout)
