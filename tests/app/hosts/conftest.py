"""Two hosts on an empty database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from shared.databases.engines.address import DatabaseAddress
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.hosts import Hosts, StartHosts, two_hosts
from tests.support.postgres_server import PostgresServer
from tests.support.s3_server import S3Server


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[DatabaseAddress]:
    """An empty database."""
    with postgres.new_database() as address:
        yield address


@pytest.fixture
def start_hosts(
    tmp_path: Path, graph: FakeGraph, shopify: FakeShopify, s3_server: S3Server, bucket: str
) -> StartHosts:
    """Call it with an address for the length of a `with` block."""
    settings = s3_server.settings(bucket)
    return partial(two_hosts, tmp_path, graph=graph, shopify=shopify, bucket=settings)


@pytest.fixture
def hosts(start_hosts: StartHosts, address: DatabaseAddress) -> Iterator[Hosts]:
    """Both serve."""
    with start_hosts(address) as hosts:
        yield hosts
