"""`python -m tests.support.frames_process`: a backup by the command line, seen from the store.

It runs `backups run --only tokens` in this process (one source, so that all happens in one
thread), and prints one line of JSON: the functions of ours on the stack when the
snapshot is put.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import FrameType
from typing import BinaryIO

from backups.cli.main import main as run_command
from shared.store.directory import DirectoryStore
from shared.store.object_store import ByteProgress, ignore_bytes

OURS = ("backups.", "shared.")


class SeenStore(DirectoryStore):
    """Notes the stack of the first put of a snapshot."""

    stack: tuple[str, ...] = ()

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """See `ObjectStore.put`."""
        if "/tokens_" in key and not SeenStore.stack:  # not the object of the check
            SeenStore.stack = tuple(functions_of_ours(sys._getframe(1)))
        super().put(key, body, metadata, progress)


def functions_of_ours(frame: FrameType | None) -> list[str]:
    """The functions of our packages on a stack, the innermost first; a comprehension is none."""
    found = []
    while frame is not None:
        module = str(frame.f_globals["__name__"])
        if module.startswith(OURS) and not frame.f_code.co_name.endswith("comp>"):
            found.append(f"{module}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return found


if __name__ == "__main__":
    sys.modules["backups.wiring"].__dict__["DirectoryStore"] = SeenStore
    code = run_command(["run", "--only", "tokens"])
    print(json.dumps(SeenStore.stack))
    sys.exit(code)
