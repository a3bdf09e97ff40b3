"""`Host`: a service in this process whose sets are copied to a second place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backups.model import BackupSet
from backups.operations.second.place import SecondPlace
from backups.service import BackupService
from tests.support.generations import write_generation
from tests.support.installation import Installation

PREFIX = "backups/"


@dataclass(frozen=True)
class Host:
    """An installation, its service, and how to open the one over its second place."""

    installation: Installation
    service: BackupService
    open_second: Callable[[], BackupService]

    @property
    def second(self) -> SecondPlace:
        """Its second place."""
        return self.service.need_second()

    def made(self, generation: str) -> BackupSet:
        """A set of these rows, in the first place alone."""
        write_generation(self.installation.folder, generation)
        run = self.service.backup.begin().execute()
        assert run.set_id is not None, run.error
        return self.service.catalogue.get(run.set_id)

    def keys(self) -> list[str]:
        """What lies in the first place."""
        return [one.key for one in self.service.store.list(PREFIX)]
