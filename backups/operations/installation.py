"""One installation: what it backs up and how, and the parts it does that with."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from backups.decisions.retention import RetentionPolicy
from backups.host.directory import BackupDirectory
from backups.host.run_log import RunLog
from backups.model import ContentCheck, ReadabilityCheck, Source
from backups.sets.catalogue import Catalogue
from backups.sets.seal import SealPlan
from shared.clock import Clock
from shared.crontab import Crontab
from shared.logs import log_files
from shared.store.object_store import ObjectStore

APPLICATION = "gpt-messenger-sales-bot 0.1.0"


@dataclass(frozen=True)
class Plan:
    """What is backed up, when, how it is called and sealed, and what stays nearby.

    `token_keys` are the fingerprints of today's token keys, the first in use; empty when
    this process does not know them. `content_checks` open a restored source (by name) as
    the application would; `readability_checks` sample a snapshot without
    writing to it. A `change_delay` of zero means that changes ask for nothing.
    """

    sources: tuple[Source, ...]
    schedule: Crontab
    prefix: str
    local_copies: int
    log_directory: Path | None
    busy_timeout: float
    drill_schedule: Crontab | None = None
    seal: SealPlan = field(default_factory=SealPlan)
    identity_file: Path | None = None
    token_keys: tuple[str, ...] = ()
    content_checks: tuple[tuple[str, ContentCheck], ...] = ()
    readability_checks: tuple[tuple[str, ReadabilityCheck], ...] = ()
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    change_delay: timedelta = timedelta(0)
    timeout: timedelta = timedelta(hours=1)

    def content_check(self, source: str) -> ContentCheck | None:
        """How the application opens this source, if it says."""
        return dict(self.content_checks).get(source)


@dataclass(frozen=True)
class Installation:
    """The plan and the adapters that carry it out."""

    plan: Plan
    store: ObjectStore
    directory: BackupDirectory
    runlog: RunLog
    catalogue: Catalogue
    clock: Clock

    def log_files(self) -> AbstractContextManager[None]:
        """The log file of each source, open inside the block; needs the run lease."""
        return log_files(
            self.plan.log_directory,
            {
                f"backup_{source.name}.log": ("backups.run", f"backups.{source.name}")
                for source in self.plan.sources
            },
        )


def source_log(source: str) -> logging.Logger:
    """The logger of one source."""
    return logging.getLogger(f"backups.{source}")
