"""One installation: its configuration, and the adapters that carry it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from backups.config import BackupConfig
from backups.host.directory import BackupDirectory
from backups.host.run_log import RunLog
from backups.sets.catalogue import Catalogue
from backups.sources.engine.live_data import Files, LiveData
from backups.vocabulary.bot import BotFacts
from shared.clock import Clock
from shared.store.object_store import ObjectStore


@dataclass(frozen=True)
class Installation:
    """The configuration and the adapters that carry it out.

    `ours` returns the instances whose sets are this installation's: its own, and those that it
    succeeds. `live` is where the data is that the sources are files of. `bot` looks at how the bot
    does, which is none of the backups' otherwise.
    """

    config: BackupConfig
    store: ObjectStore
    directory: BackupDirectory
    run_log: RunLog
    catalogue: Catalogue
    clock: Clock
    ours: Callable[[], frozenset[str]]
    bot: Callable[[], BotFacts] = BotFacts
    live: LiveData = field(default_factory=Files)
