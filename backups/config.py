"""What was configured: the sources of an installation, and how they are backed up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from backups.decisions.due import BETWEEN_SETS
from backups.decisions.retention import RetentionPolicy
from backups.format.mark import MarkKey, Marks
from backups.model import CarryOver, ContentCheck, Finding, ReadabilityCheck, RunBy, Source
from backups.vocabulary.receivers import Receiver
from backups.vocabulary.second import SecondConfig
from shared.crontab import Crontab
from shared.databases.schema import KnownSchema

APPLICATION = "gpt-messenger-sales-bot 0.1.0"

Compression = Literal["none", "zstd"]
FollowMode = Literal["auto", "compare", "wal", "off"]


@dataclass(frozen=True)
class SealConfig:
    """How snapshots are sealed here: the compression, and the age public keys that may open."""

    compression: Compression = "none"
    recipients: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """`""`, `.zst`, `.age` or `.zst.age`."""
        zst = ".zst" if self.compression == "zstd" else ""
        return zst + (".age" if self.recipients else "")


@dataclass(frozen=True)
class BackupConfig:
    """What is backed up, when, how it is called and sealed, and what stays nearby.

    `token_keys` are the fingerprints of today's token keys, the first in use; empty when
    this process does not know them, and `mark_keys` make the marks. `run_by` says who starts the
    runs. `content_checks` open a restored source (by name) as the application would;
    `readability_checks` sample a snapshot without writing to it; `carry_overs` say which rows of a
    source no restore takes back; `schema_versions` are the newest `user_version` that it can open,
    and `schemas` what it makes of the sources that are its own. A `change_delay` of zero means
    that changes ask for nothing; `follow` says how what changed is found, or that changes ask for
    sets.
    `receivers` are sent messages, and `has_heartbeat` says whether a watchdog elsewhere is called.
    `warnings` are about the settings themselves. `former_store` is the local folder that had the
    sets of this host before it had a bucket. `second` is where copies go;
    with `is_stand_in` sets go there in place of a store that is away, and nothing else does.
    """

    sources: tuple[Source, ...]
    schedule: Crontab
    prefix: str
    local_copies: int
    log_directory: Path | None
    busy_timeout: float
    drill_schedule: Crontab | None = None
    seal: SealConfig = field(default_factory=SealConfig)
    identity_file: Path | None = None
    token_keys: tuple[str, ...] = ()
    mark_keys: tuple[MarkKey, ...] = ()
    content_checks: tuple[tuple[str, ContentCheck], ...] = ()
    readability_checks: tuple[tuple[str, ReadabilityCheck], ...] = ()
    carry_overs: tuple[tuple[str, CarryOver], ...] = ()
    schema_versions: tuple[tuple[str, int], ...] = ()
    schemas: tuple[tuple[str, KnownSchema], ...] = ()
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    change_delay: timedelta = timedelta(0)
    follow: FollowMode = "off"
    timeout: timedelta = timedelta(hours=1)
    run_by: RunBy = "app"
    receivers: tuple[Receiver, ...] = ()
    has_heartbeat: bool = False
    warnings: tuple[Finding, ...] = ()
    former_store: Path | None = None
    second: SecondConfig | None = None
    is_stand_in: bool = False

    @property
    def marks(self) -> Marks:
        """What makes and checks the marks of the documents below the prefix."""
        return Marks(self.mark_keys, self.prefix)

    @property
    def follows(self) -> bool:
        """Whether a change makes an increment: it is marked, and a process that lasts makes it."""
        is_on = bool(self.change_delay) and self.follow != "off"
        return is_on and bool(self.mark_keys) and self.run_by == "app"

    @property
    def stores_changes_within(self) -> timedelta | None:
        """After how long a change is in the store, but for the time that storing it takes.

        None where changes are not stored before the next scheduled set.
        """
        if self.run_by != "app" or not self.change_delay:
            return None
        return self.change_delay if self.follows else max(self.change_delay, BETWEEN_SETS)

    def content_check(self, source: str) -> ContentCheck | None:
        """How the application opens this source, if it says."""
        return dict(self.content_checks).get(source)
