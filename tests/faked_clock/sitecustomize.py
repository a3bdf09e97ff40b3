"""Python's `time.sleep` under libfaketime; `tests/dates.sh` puts this folder on the path.

CPython sleeps until an instant of the monotonic clock, and libfaketime 0.9.10, where that clock
is not faked, moves the instant all the same: `OSError: [Errno 22]`. Later versions leave it alone:
https://github.com/wolfcw/libfaketime/blob/master/src/libfaketime.c, `clock_nanosleep`.
"""

import select
import time


def _sleep(seconds: float) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


time.sleep = _sleep  # type: ignore[assignment]
