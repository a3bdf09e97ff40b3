"""What a run knows of the room that its work needs."""

from __future__ import annotations

from typing import Protocol


class KeptRoom(Protocol):
    """The room on the disks of this host that a run needs (`backups.sources.room`)."""

    def refuse_lack(self) -> None:
        """Raise `DiskFull` when there is too little of it now."""

    def refuse_taken_reserve(self) -> None:
        """Raise `DiskFull` when a disk has less left than is to stay free on it."""
