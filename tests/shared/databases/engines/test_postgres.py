"""PostgreSQL as the engine: what it refuses at the start, and what its failures become."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.engines.address import DatabaseAddress, parse_address
from shared.databases.engines.connections import SCHEMA, Connections, connect
from shared.databases.engines.faults import _TRANSLATION, translate
from shared.databases.engines.opening import (
    InstallationFacts,
    claim_installation,
    move_installation,
    open_postgres,
    refuse_lock_that_does_not_lock,
    refuse_old_server,
)
from shared.databases.engines.postgres import PostgresDatabase
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.errors import (
    DatabaseError,
    DatabaseLocked,
    DatabaseRefused,
    DatabaseSchemaMismatch,
    DatabaseUnreachable,
    DatabaseUnreadable,
)
from shared.merchants.inbox import Event, Inbox
from tests.support.cable import Cable
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[4]


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[DatabaseAddress]:
    """An empty database."""
    with postgres.new_database() as address:
        yield address


@pytest.fixture
def connections(address: DatabaseAddress) -> Iterator[Connections]:
    """The same with our tables."""
    with open_postgres(address) as connections:
        yield connections


def tokens(connections: Connections) -> TokenStorage:
    return TokenStorage(
        PostgresDatabase(connections, "tokens"), TokenCipher((TOKEN_ENCRYPTION_KEY,))
    )


def test_many_hosts_make_the_tables_once(address: DatabaseAddress) -> None:
    """Hosts that start at once all start, on one set of tables, and find what is there."""

    def start(number: int) -> None:
        with open_postgres(address) as connections:
            tokens(connections).put(f"K{number}", "value")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(start, range(6)))
    with open_postgres(address) as connections:
        assert tokens(connections).keys() == [f"K{number}" for number in range(6)]


def test_foreign_tables_are_refused(address: DatabaseAddress) -> None:
    """A schema of our name that another program has made is left as it is."""
    with closing(connect(address, "tests")) as raw:
        raw.execute(f"CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.tokens(a INT)".encode())
    with pytest.raises(DatabaseSchemaMismatch, match="tokens"), open_postgres(address):
        pass


def test_a_table_of_another_schema_is_nobodys_business(address: DatabaseAddress) -> None:
    """Ours are in a schema of their own, so its name may be the same."""
    with closing(connect(address, "tests")) as raw:
        raw.execute("CREATE TABLE public.tokens(a INT)")
    with open_postgres(address) as connections:
        assert tokens(connections).keys() == []


def test_tables_of_a_newer_version_are_refused(address: DatabaseAddress) -> None:
    """An old host beside a new one does not write what it does not know."""
    with open_postgres(address), closing(connect(address, "tests")) as raw:
        raw.execute("UPDATE versions SET version = 99 WHERE source = 'tables'")
    with pytest.raises(DatabaseSchemaMismatch, match="version 99"), open_postgres(address):
        pass


def test_missing_rights_are_named(postgres: PostgresServer, address: DatabaseAddress) -> None:
    """A user who may only connect learns what to grant."""
    user = f"u_{address.place.split(' ', maxsplit=1)[0]}"
    with closing(connect(address, "tests")) as raw:
        raw.execute(f"CREATE ROLE {user} LOGIN".encode())
    poor = parse_address(address.url.replace("//tests@", f"//{user}@"))
    with pytest.raises(DatabaseUnreadable) as refused, open_postgres(poor):
        pass
    assert "GRANT CREATE ON DATABASE" in refused.value.hint


def test_an_old_server_is_refused() -> None:
    """It must end sessions that stand still, which 13 and older do not."""
    refuse_old_server(140000, "it")
    with pytest.raises(DatabaseRefused, match="PostgreSQL 13"):
        refuse_old_server(130022, "it")


def test_a_server_that_counts_nothing_is_refused(
    postgres: PostgresServer, address: DatabaseAddress
) -> None:
    """No change would be seen, and all would look green: refused by name, before any table."""
    name = address.place.split(" ", maxsplit=1)[0]

    def set_counting(value: str) -> None:
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} SET track_counts = {value}".encode())

    set_counting("off")
    with pytest.raises(DatabaseRefused, match="track_counts") as refused, open_postgres(address):
        pass
    assert "track_counts=on" in refused.value.hint
    with closing(connect(address, "tests")) as raw:
        assert raw.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchall() == [(None,)]
    set_counting("on")
    with open_postgres(address):
        pass


def test_a_lock_that_does_not_lock_is_refused(address: DatabaseAddress) -> None:
    """As behind a pooler, where two clients have the same session."""
    with closing(connect(address, "one")) as one, closing(connect(address, "two")) as two:
        refuse_lock_that_does_not_lock(one, two, "it")
        with pytest.raises(DatabaseRefused, match="two sessions"):
            refuse_lock_that_does_not_lock(one, one, "it")
        refuse_lock_that_does_not_lock(two, one, "it")  # nothing is left locked


def test_two_installations_do_not_share_a_database(connections: Connections) -> None:
    """A host whose store, prefix or key differs is refused, and the difference named."""
    facts = InstallationFacts("bucket at fra1", "backups/", ("k1",))
    assert claim_installation(connections, facts, "a" * 32) == "a" * 32
    assert claim_installation(connections, facts, "b" * 32) == "a" * 32
    for other, named in (
        (InstallationFacts("other at fra1", "backups/", ("k1",)), "store"),
        (InstallationFacts("bucket at fra1", "b/", ("k1",)), "BACKUP_PREFIX"),
        (InstallationFacts("bucket at fra1", "backups/", ("k2",)), "TOKEN_ENCRYPTION_KEYS"),
    ):
        with pytest.raises(DatabaseRefused, match=named):
            claim_installation(connections, other, "b" * 32)


def test_a_rotated_key_is_no_other_installation(connections: Connections) -> None:
    """A host that has the key that is noted may bring a new one; one with the old alone is out."""
    old, both, new = ("k1",), ("k2", "k1"), ("k2",)
    for keys in (old, (), both, (), new, both):
        claim_installation(connections, InstallationFacts("", "backups/", keys), "a" * 32)
    with pytest.raises(DatabaseRefused, match="key k2 is not in TOKEN_ENCRYPTION_KEYS"):
        claim_installation(connections, InstallationFacts("", "backups/", old), "a" * 32)
    other = InstallationFacts("elsewhere", "backups/", ("k3", "k2"))
    with pytest.raises(DatabaseRefused, match="store"):
        claim_installation(connections, other, "a" * 32)
    claim_installation(connections, InstallationFacts("", "backups/", new), "a" * 32)


def test_a_host_without_keys_overwrites_none(connections: Connections) -> None:
    """A command without keys in its environment leaves the newest one noted."""
    for keys in (("k2", "k1"), ()):
        claim_installation(connections, InstallationFacts("", "backups/", keys), "a" * 32)
    with pytest.raises(DatabaseRefused, match="key k2"):
        claim_installation(connections, InstallationFacts("", "backups/", ("k1",)), "a" * 32)


def test_a_key_that_was_replaced_does_not_come_back(connections: Connections) -> None:
    """A host that has both, the old one first, is let in, and lets nobody in who has that alone."""
    for keys in (("k1",), ("k2", "k1"), ("k1", "k2")):
        claim_installation(connections, InstallationFacts("", "backups/", keys), "a" * 32)
    with pytest.raises(DatabaseRefused, match="key k2"):
        claim_installation(connections, InstallationFacts("", "backups/", ("k1",)), "a" * 32)


def test_of_two_hosts_with_different_new_keys_one_is_refused(connections: Connections) -> None:
    """However close together they start: what one encrypts the other could not read."""
    start = threading.Barrier(2)

    def claims(key: str) -> bool:
        start.wait()
        facts = InstallationFacts("", "backups/", (key, "k1"))
        try:
            claim_installation(connections, facts, "a" * 32)
        except DatabaseRefused:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            with connections.begin("BEGIN") as (raw, _found):
                raw.execute("DELETE FROM installation")
                raw.execute("COMMIT")
            claim_installation(connections, InstallationFacts("", "backups/", ("k1",)), "a" * 32)
            assert sorted(pool.map(claims, ("k2", "k3"))) == [False, True]


def test_an_installation_moves_to_another_store(connections: Connections) -> None:
    """When a person says so, with its key."""
    here = InstallationFacts("bucket at fra1", "backups/", ("k1",))
    there = InstallationFacts("bucket at nyc3", "b/", ("k1",))
    claim_installation(connections, here, "a" * 32)
    with pytest.raises(DatabaseRefused, match="bucket at fra1") as refused:
        claim_installation(connections, there, "a" * 32)
    assert "./bot backups migrate --to store" in refused.value.hint
    with pytest.raises(DatabaseRefused, match="key k1"):
        move_installation(connections, InstallationFacts("bucket at nyc3", "b/", ("k2",)))
    move_installation(connections, there)
    assert claim_installation(connections, there, "b" * 32) == "a" * 32
    with pytest.raises(DatabaseRefused):
        claim_installation(connections, here, "a" * 32)


@pytest.mark.parametrize("place", ["postgresql://x@127.0.0.1:1/x", "postgresql://x@/x?host=/none"])
def test_no_server_is_named(place: str) -> None:
    """Nothing hangs where nothing listens."""
    with pytest.raises(DatabaseUnreachable, match="does not answer"):
        open_postgres(parse_address(place)).__enter__()


def test_a_crash_of_the_server_is_over_when_it_is_back() -> None:
    """Each storage fails by name meanwhile, and works again by itself, with all that it said."""
    server = PostgresServer.start()
    try:
        with server.new_database() as address, open_postgres(address) as connections:
            storage = tokens(connections)
            storage.put("K", "value")
            server.crash()
            for _ in range(5):  # more often than there are kept connections
                with pytest.raises(DatabaseUnreachable):
                    storage.get("K")
                with pytest.raises(DatabaseUnreachable):
                    storage.put("K", "other")
            server.resume()
            assert storage.get("K") == "value"
            storage.put("K", "new")
            assert storage.get("K") == "new"
    finally:
        server.stop()


def test_a_connection_that_broke_while_it_was_idle_is_nobodys_error(
    address: DatabaseAddress, connections: Connections
) -> None:
    """The server ended it: the next transaction takes a new one."""
    storage = tokens(connections)
    storage.put("K", "value")
    with closing(connect(address, "admin")) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert storage.get("K") == "value"


def test_all_connections_in_use_is_an_error_and_no_hang(address: DatabaseAddress) -> None:
    """Who waits for longer than the patience is told."""
    with open_postgres(address):
        pass
    with closing(Connections(address, most=1, patience=0.05)) as connections:
        storage = tokens(connections)
        held = PostgresDatabase(connections, "sessions")
        with held.reading(), pytest.raises(DatabaseUnreachable, match="in use"):
            storage.get("K")
        assert storage.get("K") is None


def test_one_transaction_writes_to_a_source_at_a_time(connections: Connections) -> None:
    """Of many that compare and replace, one wins, as on SQLite."""
    storage = tokens(connections)
    storage.put("K", "0")
    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(lambda number: storage.replace("K", "0", f"{number}"), range(1, 31)))
    assert won.count(True) == 1


def test_an_abandoned_transaction_stops_nobody(address: DatabaseAddress) -> None:
    """A host that froze with the right to write loses it."""

    def freeze(frozen: Connections, other: Connections) -> None:
        with PostgresDatabase(frozen, "tokens").transaction() as connection:
            connection.execute("INSERT INTO owners(key, owner) VALUES (?, ?)", ("K", b"x"))
            tokens(other).put("K", "value")  # waits until the server has ended the first one
            assert tokens(other).get("K") == "value"
            connection.execute("SELECT 1")

    with open_postgres(address) as frozen, open_postgres(address) as other:
        with pytest.raises(DatabaseUnreachable):
            freeze(frozen, other)
        assert tokens(frozen).get("K") == "value"


@pytest.mark.parametrize("marker", [b"in-the-middle-0", b"in-the-middle-2"])
def test_a_host_that_is_cut_off_in_the_middle_of_a_statement_stops_nobody(
    postgres: PostgresServer, address: DatabaseAddress, marker: bytes
) -> None:
    """The server ends its transaction, although what it waits for is no new statement."""

    def write(url: str) -> None:
        with closing(Connections(parse_address(url))) as connections:
            tokens(connections).put("K", "half")
            with PostgresDatabase(connections, "tokens").transaction() as connection:
                rows = [(f"in-the-middle-{number}", b"x") for number in range(4)]
                insert = "INSERT INTO owners(key, owner) VALUES (?, ?)"
                connection.execute(insert, rows[0])
                connection.executemany(insert, rows[1:])

    with (
        open_postgres(address) as connections,
        Cable(postgres.port) as cable,
        ThreadPoolExecutor(1) as pool,
    ):
        cable.cut_after(marker)
        writing = pool.submit(write, address.url.replace(f":{postgres.port}/", f":{cable.port}/"))
        cable.wait_until_cut()
        tokens(connections).put("K", "whole")  # it waits until the server has ended the other one
        assert tokens(connections).get("K") == "whole"
        with pytest.raises(DatabaseUnreachable):
            writing.result(120)


def test_the_order_of_the_inbox_is_that_of_the_commits(connections: Connections) -> None:
    """Of what is seen, nothing with a lower number comes later: no worker passes over it."""
    inbox = Inbox(PostgresDatabase(connections, "inbox"), SystemClock())
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            found = inbox.waiting("p", "a", seen[-1] if seen else 0, 1000)
            seen.extend(one.sequence for one in found)

    def add(number: int) -> int:
        return inbox.add(Event("p", f"{number}-{i}", "a", "t", "{}") for i in range(40))

    with ThreadPoolExecutor(3) as pool:
        looking = pool.submit(look)
        adding = [pool.submit(add, number) for number in range(20)]
        added = sum(one.result() for one in adding)
        stop.set()
        looking.result()
        look_again = inbox.waiting("p", "a", seen[-1] if seen else 0, 1000)
    seen.extend(one.sequence for one in look_again)
    assert added == 800
    assert len(seen) == 800


def test_no_error_quotes_a_row(connections: Connections) -> None:
    """The server's DETAIL has values: none of it is in ours, nor in its traceback."""

    def repeat() -> None:
        with PostgresDatabase(connections, "sessions").transaction() as connection:
            for _ in range(2):
                connection.execute(
                    "INSERT INTO sessions(session_id, uuid, created_at) VALUES (?, ?, ?)",
                    ("sesame", "sesame", 1),
                )

    with pytest.raises(DatabaseError) as failed:
        repeat()
    assert "sesame" not in f"{failed.value.message} {failed.value.hint}"
    assert failed.value.__cause__ is None
    assert "23505" in failed.value.message


@pytest.mark.parametrize("state", sorted(_TRANSLATION))
def test_each_state_has_its_class(state: str) -> None:
    """Classes stand for their codes, and a code for itself."""
    found = next(
        kind
        for code in psycopg.errors.__dict__.values()
        if isinstance(code, type)
        and issubclass(code, psycopg.Error)
        and (code.sqlstate or "").startswith(state)
        and (kind := code)
    )
    error = translate(found("text sesame"), "it")
    assert isinstance(error, DatabaseError)
    assert "sesame" not in error.message
    assert not re.search("SQLSTATE", error.message)


def test_a_lock_that_lasts_is_named(address: DatabaseAddress) -> None:
    """A statement that waits for too long is not the end of the connection."""
    with open_postgres(address) as connections, closing(connect(address, "other")) as other:
        other.execute("BEGIN")
        other.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        other.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        storage = SessionStorage(PostgresDatabase(connections, "sessions"), SystemClock())
        with pytest.raises(DatabaseLocked):
            storage.count()
        other.execute("ROLLBACK")
        assert storage.count() == 0


def test_without_a_url_nothing_of_it_is_imported() -> None:
    """Who stays with SQLite needs no driver."""
    code = (
        "import sys; sys.modules['psycopg'] = None; import app, backups.cli.main, shared.__main__;"
        "print([name for name in sys.modules if 'psycopg_' in name or 'engines.p' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
