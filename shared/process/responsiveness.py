"""How the interpreter is set up while it serves, so that requests do not wait for other work."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_SECONDS = 0.001


@contextmanager
def responsive() -> Iterator[None]:
    """Enter it when the app has been opened; the interpreter is as it was after the block.

    - A busy thread, such as a run's, gives way after one millisecond in place of Python's five.
    - What the start has made (modules, routes, models: 190,000 objects) stays for as long as the
      app, and is left out of garbage collections: walking it took more than 100 ms, in which
      nothing else of this process ran.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)
