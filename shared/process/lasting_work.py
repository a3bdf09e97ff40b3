"""Work that goes on for as long as the program: no fault ends its thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from shared.errors import AppError

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0

_log = logging.getLogger(__name__)


def last(name: str, step: Callable[[], float], stopping: threading.Event) -> None:
    """Repeat `step` until `stopping` is set; it returns how many seconds to wait before the next.

    Whatever a step raises is logged, with its traceback where it is not an `AppError`, and the
    next one follows after a wait that doubles with each failure in a row, up to a minute. Only
    what ends the process (`KeyboardInterrupt`, `SystemExit`) gets through. `stopping` ends every
    wait at once.
    """
    failures = 0
    while not stopping.is_set():
        try:
            wait = step()
            failures = 0
        except Exception as error:  # the top of a thread that has to live
            wait = min(FIRST_WAIT_SECONDS * 2.0 ** min(failures, 10), LONGEST_WAIT_SECONDS)
            failures += 1
            _report(name, error, wait)
        stopping.wait(wait)


def _report(name: str, error: Exception, wait: float) -> None:
    if isinstance(error, AppError):
        _log.error(
            "%s failed and will be tried again in %.0f s: %s [%s] %s",
            name,
            wait,
            error.message,
            error.code,
            error.hint,
        )
    else:
        _log.error("%s failed and will be tried again in %.0f s", name, wait, exc_info=error)
