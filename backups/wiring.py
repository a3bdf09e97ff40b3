"""Building the service from the settings: the only place that makes real adapters.

One file, because all real adapters are made in one place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from backups.alerts.notifier import AppriseNotifier, Notifier
from backups.config import BackupConfig, SealConfig
from backups.decisions.retention import RetentionPolicy
from backups.decisions.succession import ours_of
from backups.errors import no_second_place
from backups.format.mark import INFO, MarkKey, Marks
from backups.host.catalogues import open_catalogue
from backups.host.directory import BackupDirectory
from backups.host.records import open_records
from backups.host.run_log import RunLog
from backups.host.state import HostState
from backups.model import ContentCheck, ContentReport, Finding, ReadabilityCheck, Source
from backups.operations.installation import Installation
from backups.operations.second.documents import SecondDocuments
from backups.service import BackupService
from backups.sets.catalogue import Catalogue
from backups.sets.points_table import has_restore_points
from backups.sets.second.judge import VersionJudge
from backups.sources.engine.joining import open_live, source_paths
from backups.sources.engine.live_data import Files, LiveData
from backups.sources.links import real_source
from backups.vocabulary.bot import BotFacts, InboxFacts
from backups.vocabulary.receivers import receivers_of
from backups.vocabulary.second import DocumentsConfig, SecondConfig
from shared.bot_state import read_bot_state, read_shared_state
from shared.clock import Clock, SystemClock, format_utc
from shared.databases.checks import (
    SESSIONS_VERSION,
    TOKENS_VERSION,
    check_sessions,
    check_tokens,
    known_schemas,
    sample_tokens,
)
from shared.databases.cipher import TokenCipher, derived_key, key_fingerprint
from shared.databases.requests import carry_over
from shared.databases.sqlite import BUSY_TIMEOUT_SECONDS, Database
from shared.errors import AppError
from shared.files import make_private_directory
from shared.merchants.history.keys import (
    DOCUMENTS,
    MOST_BYTES,
    MOST_LOCKED,
    copied_folder,
    exists_once,
)
from shared.settings.load import Settings
from shared.store.append_only import AppendOnlyStore
from shared.store.directory import DirectoryStore
from shared.store.object_store import DocumentStore, ObjectStore

if TYPE_CHECKING:
    from shared.store.spaces_versions import VersionedSpaces

_log = logging.getLogger("backups.run")

# The largest answer that is no object is a listing of 1000 keys.
_ANSWER_TIMEOUT_SECONDS = 60.0


@contextmanager
def open_service(
    settings: Settings,
    clock: Clock | None = None,
    store: DocumentStore | None = None,
    *,
    only_looks: bool = False,
) -> Iterator[BackupService]:
    """A `BackupService` for the length of a block; the store is not contacted by this.

    A `store` is what `build_store` has made before, if it was. What `only_looks` opens it also
    while the database that hosts share is away.

    What a version without marks had made is marked on this host first. Raises `AppError` when
    `BACKUP_DIR` or its records cannot be used.
    """
    backup, clock = settings.backup, clock or SystemClock()
    directory = BackupDirectory(backup.directory)
    store = store or build_store(settings, was_used=lambda: has_restore_points(known))
    with (
        closing(open_records(directory.path)) as records,
        closing(open_catalogue(directory.path, store, backup.prefix, records)) as known,
        ExitStack() as stack,
    ):
        live = stack.enter_context(open_live(settings, directory, clock, only_looks=only_looks))
        service = _assembled(
            settings, store, directory, records, known=known, clock=clock, live=live
        )
        if settings.copy is not None:
            second = build_second(settings)
            place = open_catalogue(directory.path, second, backup.prefix, records)
            stack.callback(place.close)
            service.open_second(second, place, lambda: open_second_service(settings, clock))
            service.need_second().documents = SecondDocuments(
                DocumentsConfig(DOCUMENTS, copied_folder, exists_once, MOST_BYTES),
                store,
                partial(build_second_bucket, settings, most_locked=MOST_LOCKED),
                location=second.location,
                known=place,
                record=service.facts.second,
                clock=clock,
            )
        if not only_looks:
            service.facts.offer_what_is_common()
        try:
            service.upgrade_marks.note()
        except AppError as error:  # what needs the records says so
            _log.warning("what the version before had made is not marked yet: %s", error.message)
        yield service


@contextmanager
def open_second_service(
    settings: Settings, clock: Clock | None = None, *, before: datetime | None = None
) -> Iterator[BackupService]:
    """The same over the second place, which it takes for the store: to read what is there.

    With `before` only what that place itself received before that time is there. Raises
    `NoSecondPlace` where there is none, and what `open_service` does.
    """
    backup = settings.backup
    store, directory = build_second(settings, before), BackupDirectory(backup.directory)
    with ExitStack() as stack:
        records = stack.enter_context(closing(open_records(directory.path)))
        folder = directory.path
        if before is not None:  # of another time is known for this once
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="before-")))
        known = stack.enter_context(closing(open_catalogue(folder, store, backup.prefix, records)))
        live = stack.enter_context(open_live(settings, directory, clock or SystemClock()))
        typed = " --place second"
        if before is not None:
            typed += f" --stored-before {format_utc(before)}"
        yield _assembled(
            settings,
            store,
            directory,
            records,
            known=known,
            clock=clock or SystemClock(),
            typed=typed,
            live=live,
        )


@contextmanager
def open_stand_in(settings: Settings, clock: Clock | None = None) -> Iterator[BackupService]:
    """A service that makes sets in the second place while the first is away.

    Its records are its own: what it does is no answer to what the first place owes. It sends no
    messages, follows nothing and deletes nothing. Raises what `open_second_service` does.
    """
    backup, clock = settings.backup, clock or SystemClock()
    store, directory = build_second(settings), BackupDirectory(backup.directory)
    folder = directory.path / "second"
    make_private_directory(folder)
    with (
        closing(open_records(folder)) as records,
        closing(open_catalogue(directory.path, store, backup.prefix, records)) as known,
        open_live(settings, directory, clock) as live,
    ):
        config = replace(build_config(settings), follow="off", is_stand_in=True)
        yield assemble(
            config,
            store,
            directory,
            records,
            known=known,
            clock=clock,
            notifier=AppriseNotifier((), None),
            live=live,
        )


def _assembled(
    settings: Settings,
    store: ObjectStore,
    directory: BackupDirectory,
    records: Database,
    *,
    known: Database,
    clock: Clock,
    typed: str = "",
    live: LiveData | None = None,
) -> BackupService:
    backup = settings.backup
    return assemble(
        build_config(settings),
        store,
        directory,
        records,
        known=known,
        clock=clock,
        notifier=AppriseNotifier(backup.notify_urls, backup.heartbeat_url),
        notify_success=backup.notify_success,
        bot=bot_facts(settings.inbox_db_path, clock, live),
        typed=typed,
        live=live,
    )


def assemble(
    config: BackupConfig,
    store: ObjectStore,
    directory: BackupDirectory,
    records: Database,
    *,
    known: Database,
    clock: Clock,
    notifier: Notifier,
    notify_success: bool = False,
    bot: Callable[[], BotFacts] = BotFacts,
    typed: str = "",
    live: LiveData | None = None,
) -> BackupService:
    """A service of these parts, with its own adapters over `records`.

    `known` is what the host knows of `store` (`host/catalogues.py`), and `bot` how the bot does.
    `typed` are the options that a command needs to mean this store.
    """
    shared = live.database("inbox") if live is not None and live.is_shared else None
    # What is made in the second place is no answer to what the first owes.
    facts = HostState(records, None if config.is_stand_in else shared)

    def ours() -> frozenset[str]:
        former = facts.predecessors()
        return ours_of(directory.instance(), former, catalogue.by_instance() if former else ())

    catalogue = Catalogue(known, store, config.prefix, clock, ours, marks=config.marks)
    catalogue.chains.passed_over_after = facts.points_passed_over
    catalogue.is_doomed_elsewhere = facts.deeds.is_doomed
    installation = Installation(
        config=config,
        store=store,
        directory=directory,
        run_log=RunLog(records),
        catalogue=catalogue,
        clock=clock,
        ours=ours,
        bot=bot,
        live=live or Files(),
    )
    return BackupService(
        installation, facts, known, notifier, notify_success=notify_success, typed=typed
    )


def build_config(settings: Settings) -> BackupConfig:
    """What the settings say is to be backed up, and how."""
    backup = settings.backup
    paths = source_paths(settings)
    sources = (
        Source("tokens", paths["tokens"]),
        Source("sessions", paths["sessions"], volatile=True),
        *(Source(name, path) for name, path in backup.extra_sources),
    )
    return BackupConfig(
        sources=tuple(map(real_source, sources)),
        schedule=backup.schedule,
        prefix=backup.prefix,
        local_copies=backup.local_copies,
        log_directory=backup.log_directory,
        busy_timeout=BUSY_TIMEOUT_SECONDS,
        drill_schedule=backup.drill_schedule,
        seal=SealConfig(backup.compression, backup.age_recipients),
        identity_file=backup.age_identity_file,
        token_keys=tuple(key_fingerprint(key) for key in settings.token_encryption_keys),
        mark_keys=_mark_keys(settings),
        content_checks=tuple(_content_checks(settings).items()),
        readability_checks=tuple(_readability_checks(settings).items()),
        carry_overs=(("tokens", carry_over),),
        schema_versions=(("tokens", TOKENS_VERSION), ("sessions", SESSIONS_VERSION)),
        schemas=known_schemas(settings.token_encryption_keys),
        retention=RetentionPolicy(**vars(backup.keep)),
        change_delay=timedelta(seconds=backup.change_delay),
        # Of several hosts, a change makes a set: no file has what each of them writes.
        follow=backup.follow if settings.database is None else "off",
        timeout=timedelta(seconds=backup.timeout),
        run_by=backup.run_by,
        receivers=receivers_of(backup.notify_urls),
        has_heartbeat=backup.heartbeat_url is not None,
        former_store=backup.local_store if settings.spaces else None,
        second=_second_config(settings),
        warnings=tuple(
            Finding("unknown_setting", unknown.message, unknown.hint)
            for unknown in settings.unknown_names
        ),
    )


def _mark_keys(settings: Settings) -> tuple[MarkKey, ...]:
    return tuple(
        MarkKey(key_fingerprint(key), derived_key(key, INFO))
        for key in settings.token_encryption_keys
    )


def _second_config(settings: Settings) -> SecondConfig | None:
    if (copy := settings.copy) is None:
        return None
    return SecondConfig(
        location=f"{copy.bucket.bucket} at {copy.bucket.endpoint}",
        every=timedelta(seconds=copy.every),
        lock_days=copy.lock_days,
        mbit=copy.mbit,
    )


def bot_facts(inbox: Path, clock: Clock, live: LiveData | None = None) -> Callable[[], BotFacts]:
    """How the bot does, by its inbox: whichever process asks, the app itself or a command."""

    def look() -> BotFacts:
        if live is not None and live.is_shared:
            state = read_shared_state(live.database("inbox"), clock.now())
        else:
            state = read_bot_state(inbox, clock.now())
        return BotFacts(
            InboxFacts(**vars(state.inbox)) if state.inbox else None, state.last_sync, state.fault
        )

    return look


def _content_checks(settings: Settings) -> dict[str, ContentCheck]:
    """How the application opens its own databases; tokens only when the keys are known."""
    checks: dict[str, ContentCheck] = {
        "sessions": lambda path: ContentReport(*check_sessions(path))
    }
    if settings.token_encryption_keys:
        cipher = TokenCipher(settings.token_encryption_keys)
        checks["tokens"] = lambda path: ContentReport(*check_tokens(path, cipher))
    return checks


def _readability_checks(settings: Settings) -> dict[str, ReadabilityCheck]:
    if not settings.token_encryption_keys:
        return {}
    cipher = TokenCipher(settings.token_encryption_keys)
    return {"tokens": lambda path: ContentReport(*sample_tokens(path, cipher))}


def build_store(
    settings: Settings, *, was_used: Callable[[], bool] = lambda: False
) -> DocumentStore:
    """The store: Spaces when its settings are there, else a folder on this host.

    `was_used` says whether that folder should be there, because it was used before.
    """
    if settings.spaces is None:
        return DirectoryStore(settings.backup.local_store, was_used=was_used)
    # Imported only here: boto3 takes longer to import than all the rest.
    from shared.store.spaces import SpacesStore  # noqa: PLC0415

    answer_timeout = min(_ANSWER_TIMEOUT_SECONDS, settings.backup.timeout)
    return SpacesStore(settings.spaces, answer_timeout=answer_timeout)


def build_second(settings: Settings, before: datetime | None = None) -> AppendOnlyStore:
    """The second place; with `before`, as it was then. Raises `NoSecondPlace`."""
    bucket = build_second_bucket(settings)
    judge = VersionJudge(Marks(_mark_keys(settings), settings.backup.prefix))
    judge.store = store = AppendOnlyStore(bucket, judge.is_right, before)
    return store


def build_second_bucket(
    settings: Settings, *, most_locked: timedelta | None = None
) -> VersionedSpaces:
    """The bucket of the second place, where nothing is locked for longer than `most_locked`.

    Raises `NoSecondPlace`.
    """
    if (copy := settings.copy) is None:
        raise no_second_place()
    from shared.store.spaces_versions import VersionedSpaces  # noqa: PLC0415 - see `build_store`

    return VersionedSpaces(
        copy.bucket,
        lock=timedelta(days=copy.lock_days) if copy.lock_days else None,
        at_most=most_locked,
        answer_timeout=min(_ANSWER_TIMEOUT_SECONDS, settings.backup.timeout),
    )
