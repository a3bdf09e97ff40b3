"""The numbers of the sets of several hosts: each is given once, above all that are taken."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.databases.engines.connections import Connections
from shared.databases.engines.counter import SharedCounter
from shared.databases.engines.opening import open_postgres
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
def connections(postgres: PostgresServer) -> Iterator[Connections]:
    """To a database with our tables."""
    with postgres.new_database() as address, open_postgres(address) as connections:
        yield connections


def test_each_number_is_given_once(connections: Connections) -> None:
    """To whichever host asks."""
    counters = [SharedCounter(connections) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        taken = [pool.submit(counter.take) for counter in counters for _ in range(10)]
    assert sorted(one.result() for one in taken) == list(range(1, 31))


def test_numbers_go_on_above_what_the_store_has(connections: Connections) -> None:
    """The database may be newer than the sets: an old set must not stay the newest."""
    counter = SharedCounter(connections)
    counter.prepare(5000)
    assert counter.take() == 5001
    counter.prepare(17)
    assert counter.take() == 5002
    assert counter.take(9000) == 9001
