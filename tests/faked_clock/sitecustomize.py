"""What Python needs under libfaketime; `tests/dates.sh` puts this folder on the path.

A child that a test starts with an environment of its own gets the faked clock too, or it would
live at another date than its parent. Not so with `REAL_CLOCK` in that environment: for what talks
to a server at the real date, a package index above all, whose certificate has its own dates.

CPython's `time.sleep` sleeps until an instant of the monotonic clock, and libfaketime 0.9.10,
where that clock is not faked, moves the instant all the same: `OSError: [Errno 22]`. Later
versions leave it alone: https://github.com/wolfcw/libfaketime/blob/master/src/libfaketime.c,
`clock_nanosleep`.
"""

import os
import select
import subprocess
import time
from typing import Any

_OF_THE_CLOCK = {
    name: os.environ[name] for name in os.environ if name == "LD_PRELOAD" or "FAKE" in name
}
_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - at every start of Python


def _sleep(seconds: float) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


def _path(env: Any) -> list[str]:
    return [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]


class _Popen(subprocess.Popen[Any]):
    def __init__(self, *arguments: Any, env: Any = None, **more: Any) -> None:
        if env is not None and "REAL_CLOCK" in env:
            path = [part for part in _path(env) if part != _HERE]
            env = {name: env[name] for name in env if name not in _OF_THE_CLOCK}
            env["PYTHONPATH"] = os.pathsep.join(path)
        elif env is not None:
            env = {**env, **_OF_THE_CLOCK, "PYTHONPATH": os.pathsep.join([_HERE, *_path(env)])}
        super().__init__(*arguments, env=env, **more)  # type: ignore[call-overload]


time.sleep = _sleep  # type: ignore[assignment]
subprocess.Popen = _Popen  # type: ignore[misc]
