"""The engines that the storages run on: each test of one runs over both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from shared.databases.engines.database import Database
from shared.databases.engines.opening import open_postgres
from shared.databases.engines.postgres import PostgresDatabase
from shared.merchants.inbox import open_inbox
from tests.support.postgres_server import PostgresServer

Engine = Callable[[str, Path], Path | Database]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Over both, but for tests that look at files of SQLite: those take a path."""
    if "engine" in metafunc.fixturenames:
        asked = set(metafunc.definition._fixtureinfo.argnames)
        engines = [pytest.param("sqlite", id="sqlite")]
        if not asked & {"path", "tmp_path"}:
            engines.append(pytest.param("postgres", id="postgres", marks=pytest.mark.slow))
        metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """What a storage is opened with: the path of a source's file, or its tables."""
    if request.param == "sqlite":
        yield lambda _, path: path
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with ExitStack() as stack:
        address = stack.enter_context(server.new_database())
        connections = stack.enter_context(open_postgres(address))
        yield lambda source, _: PostgresDatabase(connections, source)


@pytest.fixture
def inbox_database(engine: Engine, tmp_path: Path) -> Iterator[Database]:
    """The database of an empty inbox, on each engine."""
    given = engine("inbox", tmp_path / "inbox.db")
    with closing(open_inbox(given) if isinstance(given, Path) else given) as database:
        yield database
