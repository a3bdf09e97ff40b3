"""The stages of each operation, in their order: for the run log, the page and the docs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backups.model import OperationName


@dataclass(frozen=True)
class Stage:
    """A part of a run: its name in the run log, and what the run does in it."""

    name: str
    does: str


# The stages of each operation, in their order. A run may end before the last one.
STAGES: Mapping[OperationName, tuple[Stage, ...]] = {
    "backup": (
        Stage("check", "Check the store"),
        Stage("snapshot", "Copy all databases at one instant"),
        Stage("seal", "Compress and encrypt, where that is set"),
        Stage("store", "Send to the store"),
        Stage("proof", "Read back and prove"),
        Stage("manifest", "Publish"),
    ),
    "verify": (Stage("proof", "Read back and prove"),),
    "drill": (
        Stage("get", "Fetch from the store"),
        Stage("open", "Restore into a scratch folder and open"),
    ),
    "restore": (
        Stage("check", "Check the target"),
        Stage("get", "Get the files and check them"),
        Stage("install", "Put the files in place, keep what was there"),
        Stage("keep", "Make a set of what was replaced"),
        Stage("seal", "Compress and encrypt it, where that is set"),
        Stage("store", "Send it to the store"),
        Stage("proof", "Read it back and prove it"),
        Stage("manifest", "Publish it"),
    ),
    "prune": (
        Stage("finish", "Finish what an earlier prune began"),
        Stage("drop", "Delete what no rule keeps"),
        Stage("sweep", "Delete objects that belong to no backup"),
    ),
    "delete": (
        Stage("check", "Check that the backup may go"),
        Stage("note", "Note in the store that it was deleted"),
        Stage("drop", "Delete it, and what hangs on it"),
    ),
}
