"""Moving to PostgreSQL and back: every row; after an interruption the same command finishes."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from backups.host.records import open_records
from backups.host.state import HostState
from backups.vocabulary.receivers import ReceiverState
from backups.vocabulary.second import StandIn
from shared.clock import SystemClock
from shared.databases.engines.address import DatabaseAddress
from shared.databases.engines.opening import open_postgres
from shared.databases.engines.postgres import PostgresDatabase
from shared.merchants.inbox import Event, Inbox, open_inbox
from shared.store.spaces_access import SpacesSettings
from tests.support.installation import REPOSITORY, Installation, installation_in, spaces
from tests.support.postgres_server import PostgresServer
from tests.support.records import INSTANT
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.slow
TABLES = {
    "tokens": ("tokens", "requests", "owners"),
    "sessions": ("sessions",),
    "inbox": ("events", "facts", "failures"),
}
# Ends itself as SIGKILL would, before the call of this number of what moves rows.
KILLED = """
import os, signal, sys
from backups.cli import main, migrate
from shared.databases.engines import files, opening
calls = int(sys.argv.pop(1))
def counted(module, name):
    real = getattr(module, name)
    def call(*arguments, **options):
        global calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(module, name, call)
for name in ("stage", "swap", "counts", "copy_out", "forget"):
    counted(files, name)
counted(opening, "note_moved")
for name in ("_keep", "_compare", "_read_all", "sync_directory"):
    counted(migrate, name)
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[DatabaseAddress]:
    """An empty database."""
    with postgres.new_database() as address:
        yield address


@pytest.fixture
def bucket_settings(s3_server: S3Server, bucket: str) -> SpacesSettings:
    return s3_server.settings(bucket)


@pytest.fixture
def alone(tmp_path: Path, bucket_settings: SpacesSettings) -> Installation:
    """A host with data in SQLite files."""
    made = installation_in(tmp_path, **spaces(bucket_settings)).make_databases(tokens=5)
    with closing(open_inbox(tmp_path / "data" / "inbox.db")) as database:
        inbox = Inbox(database, SystemClock())
        now = datetime.now(UTC)
        inbox.add(Event("facebook", f"m{n}", "a", "t", '{"a":"ä"}', now) for n in range(4))
        inbox.finish([1])
        inbox.postpone([2], 60)
    return made


def rows(path: Path, tables: tuple[str, ...]) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as file:
        return [sorted(file.execute(f"SELECT * FROM {table}")) for table in tables]


def content(installation: Installation) -> dict[str, object]:
    data = installation.folder / "data"
    return {source: rows(data / f"{source}.db", tables) for source, tables in TABLES.items()}


def digests(installation: Installation) -> list[str]:
    data = installation.folder / "data"
    return [hashlib.sha256((data / f"{one}.db").read_bytes()).hexdigest() for one in TABLES]


def migrate(installation: Installation, to: str) -> subprocess.CompletedProcess[str]:
    return installation.cli("migrate", "--to", to)


def killed_before(installation: Installation, call: int, to: str) -> int:
    command = [sys.executable, "-c", KILLED, str(call), "migrate", "--to", to]
    return subprocess.run(
        command, cwd=installation.folder, env=installation.environment, check=False, timeout=120
    ).returncode


def test_there_and_back_every_row_is_the_same(
    alone: Installation, address: DatabaseAddress
) -> None:
    """The old side stays as it was, and whichever side is old is refused by name."""
    before, files = content(alone), digests(alone)
    shared = alone.with_settings(DATABASE_URL=address.url)

    refused = shared.cli("run")
    assert refused.returncode == 1
    assert "is empty" in refused.stderr
    assert "migrate --to postgresql" in refused.stderr

    there = migrate(shared, "postgresql")
    assert there.returncode == 0, there.stderr
    assert digests(alone) == files
    refused = alone.cli("run")
    assert refused.returncode == 1
    assert "moved to PostgreSQL" in refused.stderr
    assert shared.cli("run").returncode == 0
    assert migrate(shared, "postgresql").returncode == 0  # it is there

    back = migrate(shared, "sqlite")
    assert back.returncode == 0, back.stderr
    assert content(alone) == before
    kept = alone.folder / "data" / "tokens.db.before-migration-1"
    assert rows(kept, TABLES["tokens"]) == before["tokens"]
    refused = shared.cli("run")
    assert refused.returncode == 1
    assert "moved to SQLite" in refused.stderr
    assert alone.cli("run").returncode == 0

    assert migrate(shared, "postgresql").returncode == 0  # and once more
    assert shared.cli("run").returncode == 0


@pytest.mark.parametrize("to", ["postgresql", "sqlite"])
def test_a_migration_that_was_killed_is_finished_by_the_same_command(
    alone: Installation, postgres: PostgresServer, to: str
) -> None:
    """At each step, in both directions; no app starts on the half."""
    before = content(alone)
    call, code = 0, -signal.SIGKILL
    while True:
        with postgres.new_database() as address:
            shared = alone.with_settings(DATABASE_URL=address.url)
            if to == "sqlite":
                assert migrate(shared, "postgresql").returncode == 0
            code = killed_before(shared, call, to)
            if code == -signal.SIGKILL:
                done = migrate(shared, to)
                assert done.returncode == 0, (to, call, done.stderr)
            if to == "postgresql":
                assert shared.cli("run").returncode == 0, (to, call)
                assert migrate(shared, "sqlite").returncode == 0, (to, call)
            assert content(alone) == before, (to, call)
        if code != -signal.SIGKILL:
            assert code == 0
            break
        call += 2
    assert call > 2


def test_a_running_app_is_not_migrated(alone: Installation, address: DatabaseAddress) -> None:
    """Who schedules on this host, or among the hosts, keeps it out."""
    shared = alone.with_settings(DATABASE_URL=address.url)
    held = alone.backup_dir.scheduler_lease.try_acquire()
    assert held is not None
    assert migrate(shared, "postgresql").returncode == 4
    held.release()
    assert migrate(shared, "postgresql").returncode == 0


def test_a_database_with_data_is_not_overwritten(
    alone: Installation, address: DatabaseAddress, tmp_path: Path, bucket_settings: SpacesSettings
) -> None:
    """A second host with files of its own does not bring them over those of the first."""
    assert migrate(alone.with_settings(DATABASE_URL=address.url), "postgresql").returncode == 0
    folder = tmp_path / "other"
    folder.mkdir()
    other = installation_in(folder, **spaces(bucket_settings), DATABASE_URL=address.url)
    other.make_databases()
    refused = migrate(other, "postgresql")
    assert refused.returncode == 1
    assert "has data already" in refused.stderr
    with psycopg.connect(address.url) as connection:
        assert connection.execute("SELECT count(*) FROM sales_bot.tokens").fetchone() == (5,)


def test_what_is_known_of_the_backups_goes_along(
    alone: Installation, address: DatabaseAddress
) -> None:
    """There and back again: the newest drill and kit, and a host that knew nothing knows them."""
    shared = alone.with_settings(DATABASE_URL=address.url)
    assert alone.cli("run").returncode == 0
    first = alone.json("drill")
    assert migrate(shared, "postgresql").returncode == 0
    new_host = other_host(shared)
    found = status_of(new_host)
    assert found["last_drill"]["at"] == drill_of(first)
    assert "attempts_unknown" not in {one["code"] for one in found["warnings"]}

    second = new_host.json("drill")
    assert new_host.cli("kit", "--kept").returncode == 0
    assert migrate(shared, "sqlite").returncode == 0
    back = status_of(alone)
    assert back["last_drill"]["at"] == drill_of(second)
    assert back["kit_kept_at"] is not None
    with closing(sqlite3.connect(alone.folder / "data" / "inbox.db")) as inbox:
        names = {str(name) for (name,) in inbox.execute("SELECT name FROM facts")}
    assert not names & {"last_drill", "kit_kept", "last_outcome"}

    third = alone.json("drill")
    assert migrate(shared, "postgresql").returncode == 0
    assert status_of(new_host)["last_drill"]["at"] == drill_of(third)


@contextmanager
def known(host: Installation, address: DatabaseAddress | None = None) -> Iterator[HostState]:
    """What a host knows; with an address, as one of several."""
    with ExitStack() as stack:
        records = stack.enter_context(closing(open_records(host_folder(host))))
        shared = None
        if address is not None:
            shared = PostgresDatabase(stack.enter_context(open_postgres(address)), "inbox")
        yield HostState(records, shared)


def host_folder(host: Installation) -> Path:
    """Its `BACKUP_DIR`."""
    return Path(host.settings["BACKUP_DIR"])


def other_host(host: Installation) -> Installation:
    """Another one with the same settings, and a `BACKUP_DIR` of its own."""
    folder = host.folder / "other"
    (folder / "backups").mkdir(parents=True)
    return Installation(folder, {**host.settings, "BACKUP_DIR": str(folder / "backups")})


def test_what_another_host_ended_stays_ended(alone: Installation, address: DatabaseAddress) -> None:
    """What the second place took for the first goes there and back, until it is over."""
    shared, place = alone.with_settings(DATABASE_URL=address.url), "copies at https://example.com"
    other, stand_in = other_host(shared), StandIn(INSTANT, sets=("20261122T010000Z",))
    with known(alone) as state:
        state.second.begin(place, INSTANT)
        state.second.note_stand_in(stand_in, place)
    assert migrate(shared, "postgresql").returncode == 0
    with known(other, address) as state:
        found = state.second.stand_in(place)
        assert found is not None
        assert found.sets == stand_in.sets
        state.second.note_stand_in(None, place)
    assert migrate(shared, "sqlite").returncode == 0
    with known(alone) as state:
        assert state.second.stand_in(place) is None


def test_what_was_sent_goes_along(alone: Installation, address: DatabaseAddress) -> None:
    """There and back, whichever host sent it, and whichever starts first."""
    shared = alone.with_settings(DATABASE_URL=address.url)
    other = other_host(shared)
    with known(other) as state:
        state.messages.change(["one"], lambda _: {"one": ReceiverState(("old",))})
    with known(alone) as state:
        state.messages.change(["one"], lambda _: {"one": ReceiverState(("overdue",))})
    assert migrate(shared, "postgresql").returncode == 0
    with known(other, address) as state:
        state.offer_what_is_common()
        assert state.messages.states(["one"])["one"].told == ("overdue",)
        state.messages.change(["one"], lambda _: {"one": ReceiverState(("suspect",))})
    assert migrate(shared, "sqlite").returncode == 0
    with known(alone) as state:
        assert state.messages.states(["one"])["one"].told == ("suspect",)
    with closing(sqlite3.connect(alone.folder / "data" / "inbox.db")) as inbox:
        names = [str(name) for (name,) in inbox.execute("SELECT name FROM facts")]
    assert not [name for name in names if name.startswith("receiver:")]


def status_of(host: Installation) -> dict[str, Any]:
    """What a host says, whatever it thinks of it."""
    document: dict[str, Any] = json.loads(host.cli("status", "--json").stdout)
    return document


def drill_of(run: dict[str, Any]) -> str:
    """When a drill ended, as status says it."""
    return str(run["drill"]["at"])


def test_an_installation_of_several_hosts_moves_to_another_store(
    alone: Installation, address: DatabaseAddress, s3_server: S3Server
) -> None:
    """A person says so once; a host with the old settings is refused then."""
    shared = alone.with_settings(DATABASE_URL=address.url)
    assert migrate(shared, "postgresql").returncode == 0
    elsewhere = shared.with_settings(**spaces(s3_server.settings_of_new_bucket()))
    refused = elsewhere.cli("run")
    assert refused.returncode != 0
    assert "./bot backups migrate --to store" in refused.stderr

    moved = migrate(elsewhere, "store")
    assert moved.returncode == 0, moved.stderr
    assert "from now on" in moved.stdout
    assert elsewhere.cli("run").returncode == 0
    assert shared.cli("run").returncode != 0


def test_a_token_key_is_rotated_on_several_hosts(
    alone: Installation, address: DatabaseAddress
) -> None:
    """As docs/security.md says it; a host that has only the old one is refused by name."""
    shared = alone.with_settings(DATABASE_URL=address.url)
    assert migrate(shared, "postgresql").returncode == 0
    old = shared.settings["TOKEN_ENCRYPTION_KEYS"]
    new = Fernet.generate_key().decode()
    both = shared.with_settings(TOKEN_ENCRYPTION_KEYS=f"{new},{old}")
    rotated = subprocess.run(
        [sys.executable, "-m", "shared", "rotate-keys"],
        cwd=REPOSITORY,
        env=both.environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert rotated.returncode == 0, rotated.stderr
    assert both.cli("run").returncode == 0
    behind = shared.cli("status")
    assert behind.returncode != 0
    assert "TOKEN_ENCRYPTION_KEYS" in behind.stderr
    assert shared.with_settings(TOKEN_ENCRYPTION_KEYS=new).cli("run").returncode == 0
