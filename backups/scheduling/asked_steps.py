"""Asking the process that follows changes for a step at once, from any process of this host.

    follow/asked/<id>      a question: an empty file

Whoever asks has committed something, and waits until its file is gone. The follower lists the
files, then makes a step, and removes those that it had listed once all that was written by then is
in a proven point. No clock is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from backups.host.directory import disk_errors
from backups.service import BackupService
from shared.files import make_private_directory


class AskedSteps:
    """The questions. Methods raise `DiskFull`, `DirectoryUnusable`."""

    def __init__(self, service: BackupService) -> None:
        self._service = service
        self._folder = service.directory.path / "follow" / "asked"

    def ask(self) -> str | None:
        """Ask for a proven point of what is committed now; None where nothing is followed.

        That is so by the settings, or until a person has said what a database that was begun empty
        is to hold.
        """
        if not self._service.config.follows or self._service.own_sets.started_empty():
            return None
        asked = uuid4().hex
        with disk_errors(self._folder):
            make_private_directory(self._folder)
            (self._folder / asked).touch(mode=0o600, exist_ok=False)
        return asked

    def is_given(self, asked: str) -> bool:
        """Whether there is that point."""
        return not (self._folder / asked).exists()

    def withdraw(self, asked: str) -> None:
        """Nobody waits for it any more; twice is allowed."""
        self.answer([asked])

    def waiting(self) -> list[str]:
        """What is asked for now."""
        with disk_errors(self._folder):
            return [one.name for one in self._folder.iterdir()] if self._folder.is_dir() else []

    def answer(self, asked: Sequence[str]) -> None:
        """There is a point of what was committed before these were listed."""
        with disk_errors(self._folder):
            for one in asked:
                (self._folder / one).unlink(missing_ok=True)
