"""`migrate --to postgresql|sqlite`: tokens, sessions and inbox go to the other engine. With them
goes what is known of the installation's backups, whichever host has noted it.

`migrate --to store` notes in the shared database that the backups go elsewhere from now on.

The app is stopped on all hosts. What is on the old side stays as it was. Each step can be repeated:
after a run that was killed, the same command finishes.

One file, because both directions do the same steps, and undo each other.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from backups.cli.commands import DONE
from backups.cli.output import print_json, show
from backups.cli.owner import become_owner
from backups.errors import LeaseHeld
from backups.host import messages
from backups.host.directory import BackupDirectory, disk_errors
from backups.host.records import open_records
from backups.host.remembered.attempts import Attempts
from backups.host.run_log import RunLog
from backups.host.state import HostState, is_common
from backups.sources.engine.joining import MOVED, facts_of
from backups.wiring import open_service
from shared.databases.checks import check_tokens, known_schemas
from shared.databases.cipher import TokenCipher
from shared.databases.engines.database import Database
from shared.errors import AppError, DatabaseRefused, SettingsError
from shared.files import make_private_directory, sync_directory, sync_file
from shared.merchants.inbox import ADDITIONS, MIGRATIONS, open_inbox
from shared.settings.load import Settings, load_settings, read_environment
from shared.words import counted


def add_to(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--to", required=True, choices=("postgresql", "sqlite", "store"), help="where"
    )


def migrate(options: argparse.Namespace) -> int:
    """Move the data; raises `SettingsError`, `LeaseHeld` while an app runs, `DatabaseError`."""
    settings = load_settings(read_environment())
    if settings.database is None:
        raise SettingsError(("DATABASE_URL is not set: name the PostgreSQL to migrate to or from",))
    if not settings.token_encryption_keys:
        raise SettingsError(("TOKEN_ENCRYPTION_KEYS is not set, and `migrate` needs it",))
    become_owner(settings)
    if options.to == "store":
        return _to_store(settings, as_json=options.json)
    rows = _to_postgresql(settings) if options.to == "postgresql" else _to_sqlite(settings)
    if options.json:
        print_json({"to": options.to, "rows": rows})
        return DONE
    total = ", ".join(f"{source}: {counted(count, 'row')}" for source, count in rows.items())
    after = (
        "Start the app on each host with DATABASE_URL."
        if options.to == "postgresql"
        else "Leave DATABASE_URL out, then start the app."
    )
    show(f"Moved to {options.to} ({total}). The old side is as it was. {after}")
    return DONE


def _to_store(settings: Settings, *, as_json: bool) -> int:
    """Note the bucket and the prefix of these settings; the data stays where it is."""
    from shared.databases.engines.lease import SharedLease  # noqa: PLC0415 - see `_to_sqlite`
    from shared.databases.engines.opening import (  # noqa: PLC0415
        InstallationFacts,
        move_installation,
        open_postgres,
    )

    assert settings.database is not None  # noqa: S101 - asked before
    facts = InstallationFacts(*facts_of(settings))
    with ExitStack() as stack:
        connections = stack.enter_context(open_postgres(settings.database))
        _hold(stack, SharedLease(settings.database, "scheduler"))
        before = move_installation(connections, facts)
    if before is None:
        raise DatabaseRefused(
            f"{connections.what} has no installation yet",
            "Bring the data there first: ./bot backups migrate --to postgresql",
        )
    if as_json:
        print_json({"to": "store", "store": facts.store, "prefix": facts.prefix})
    else:
        show(
            f"The backups of all hosts went to {before[1]} in {before[0]}, and go to "
            f"{facts.prefix} in {facts.store} from now on: give each the same settings, then start "
            "the app. What is in the old place stays there."
        )
    return DONE


def _to_postgresql(settings: Settings) -> dict[str, int]:
    from shared.databases.engines.files import (  # noqa: PLC0415 - only who has a DATABASE_URL
        MIGRATION,
        counts,
        forget,
        is_empty,
        is_unfinished,
        stage,
        swap,
    )
    from shared.databases.engines.lease import SharedLease  # noqa: PLC0415
    from shared.databases.engines.opening import (  # noqa: PLC0415
        InstallationFacts,
        claim_installation,
        is_moved,
        note_moved,
        open_postgres,
    )
    from shared.databases.engines.postgres import PostgresDatabase  # noqa: PLC0415

    address, files = settings.database, _files(settings)
    assert address is not None  # noqa: S101 - asked before
    directory = BackupDirectory(settings.backup.directory)
    with ExitStack() as stack:
        _hold(stack, directory.scheduler_lease)
        connections = stack.enter_context(open_postgres(address))
        _hold(stack, SharedLease(address, "scheduler"))
        mark = directory.path / MOVED
        empty = all(is_empty(connections, source) for source in files)
        if not (empty or is_moved(connections) or is_unfinished(connections)):
            if mark.exists():
                return {source: sum(counts(connections, source).values()) for source in files}
            raise DatabaseRefused(
                f"{connections.what} has data already",
                "Name an empty database in DATABASE_URL.",
            )
        mark.unlink(missing_ok=True)
        _make_set(replace(settings, database=None))
        claim_installation(
            connections, InstallationFacts(*facts_of(settings)), directory.instance()
        )
        _open_all(settings)  # brings each to the newest version, and makes what is missing
        forget(connections, MIGRATION)
        for source, path in files.items():
            stage(connections, MIGRATION, source, path)
        swap(connections, MIGRATION, files)
        rows = {source: counts(connections, source) for source in files}
        for source, path in files.items():
            _compare(source, _counted(path, list(rows[source])), rows[source])
        _read_all(settings, PostgresDatabase(connections, "tokens"))
        _tell_what_is_known(directory, PostgresDatabase(connections, "inbox"))
        with disk_errors(mark):
            mark.touch(mode=0o600)
            sync_directory(directory.path)
        note_moved(connections, moved=False)
        forget(connections, MIGRATION)  # until then no app starts on it
    return {source: sum(found.values()) for source, found in rows.items()}


def _to_sqlite(settings: Settings) -> dict[str, int]:
    from shared.databases.engines.files import (  # noqa: PLC0415 - only who has a DATABASE_URL
        SHAPES,
        FileShape,
        copy_out,
        counts,
    )
    from shared.databases.engines.lease import SharedLease  # noqa: PLC0415
    from shared.databases.engines.opening import is_moved, note_moved, open_postgres  # noqa: PLC0415
    from shared.databases.engines.postgres import PostgresDatabase  # noqa: PLC0415

    address, files = settings.database, _files(settings)
    assert address is not None  # noqa: S101 - asked before
    directory = BackupDirectory(settings.backup.directory)
    mark = directory.path / MOVED
    with open_postgres(address) as connections:
        moved = is_moved(connections)
    if not moved:
        _make_set(settings)
    with ExitStack() as stack:
        connections = stack.enter_context(open_postgres(address))
        _hold(stack, directory.scheduler_lease)
        _hold(stack, SharedLease(address, "scheduler"))
        rows = {source: counts(connections, source) for source in files}
        if not is_moved(connections):
            coming = {source: _beside(path, ".coming") for source, path in files.items()}
            for path in coming.values():
                make_private_directory(path.parent)
                path.unlink(missing_ok=True)
            shapes = {**SHAPES, "inbox": FileShape(MIGRATIONS, ADDITIONS)}
            copy_out(connections, coming, shapes)
            for source, path in coming.items():
                _compare(source, _counted(path, list(rows[source])), rows[source])
                sync_file(path)
            _read_all(settings, coming["tokens"])
            _note_what_is_known(directory, PostgresDatabase(connections, "inbox"), coming["inbox"])
            for source, path in files.items():
                _keep(path)
                coming[source].replace(path)
                sync_directory(path.parent)
            _open_all(settings)  # in WAL mode from the start
            note_moved(connections, moved=True)
        mark.unlink(missing_ok=True)
    return {source: sum(found.values()) for source, found in rows.items()}


def _tell_what_is_known(directory: BackupDirectory, shared: Database) -> None:
    """Let all hosts know what this one has noted alone, its last backup too."""
    with closing(open_records(directory.path)) as records:
        state, log = HostState(records, shared), RunLog(records)
        state.common.replace_shared()
        state.messages.offer()
        made = log.last("backup", "succeeded")
        if made is not None:
            Attempts(log, state.common, lambda: made.started_at, lambda _: True).note(made)


def _note_what_is_known(directory: BackupDirectory, shared: Database, inbox: Path) -> None:
    """Let this host know what all have noted; the file of the inbox is not where it looks."""
    with closing(open_records(directory.path)) as records:
        state = HostState(records, shared)
        state.common.mirror()
        state.messages.mirror()
    with closing(sqlite3.connect(inbox, isolation_level=None)) as file:
        names = [str(name) for (name,) in file.execute("SELECT name FROM facts")]
        gone = [(one,) for one in names if is_common(one) or one.startswith(messages.COMMON)]
        file.executemany("DELETE FROM facts WHERE name = ?", gone)


def _files(settings: Settings) -> Mapping[str, Path]:
    return {
        "tokens": settings.token_db_path,
        "sessions": settings.session_db_path,
        "inbox": settings.inbox_db_path,
    }


def _hold(stack: ExitStack, lease: Any) -> None:
    held = lease.try_acquire(2)
    if held is None:
        raise LeaseHeld(None)
    stack.callback(held.release)


def _make_set(settings: Settings) -> None:
    """A proven set of what is there; raises `AppError` if that fails."""
    with open_service(settings) as service:
        run = service.backup.begin().execute()
    if run.error is not None:
        error = AppError(
            f"nothing was moved: the set before it failed: {run.error.message}", run.error.hint
        )
        error.code = run.error.code
        raise error


def _open_all(settings: Settings) -> None:
    """Open each file as the app would: it is made if it is missing, and has the newest version."""
    schemas = dict(known_schemas(settings.token_encryption_keys))
    schemas["tokens"].opens(settings.token_db_path)
    schemas["sessions"].opens(settings.session_db_path)
    with closing(open_inbox(settings.inbox_db_path)) as inbox, inbox.reading():
        pass


def _counted(path: Path, tables: list[str]) -> dict[str, int]:
    """The rows of each of these tables in a file; none in one that it does not have."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        there = {row[0] for row in file.execute("SELECT name FROM sqlite_schema")}
        return {
            table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            if table in there
            else 0
            for table in tables
        }


def _compare(source: str, here: dict[str, int], there: dict[str, int]) -> None:
    wrong = [
        f"{table} {here[table]} and {there[table]}" for table in here if here[table] != there[table]
    ]
    if wrong:
        raise DatabaseRefused(
            f"the rows of {source} differ in number after the copy: {', '.join(wrong)}",
            "Is the app stopped on all hosts? Then run the command again.",
        )


def _read_all(settings: Settings, place: Path | Database) -> None:
    """Open every value; raises `DatabaseRefused` for one that cannot be read."""
    rows, unreadable, about = check_tokens(place, TokenCipher(settings.token_encryption_keys))
    if unreadable:
        raise DatabaseRefused(
            f"{unreadable} of {counted(rows, 'value')} cannot be read. {about}",
            "Add their keys to TOKEN_ENCRYPTION_KEYS, or delete the rows; then run it again.",
        )


def _keep(path: Path) -> None:
    """Move a file of before out of the way, with its side files."""
    number = 1
    while (kept := _beside(path, f".before-migration-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(kept.with_name(kept.name + suffix))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
