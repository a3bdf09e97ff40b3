"""Fixtures for all tests: a real S3 server, started by the first test that uses it."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore.loaders import create_loader
from hypothesis import settings

from tests.support import servers
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.memory import folder_in_memory
from tests.support.postgres_server import PostgresServer
from tests.support.s3_server import S3Server
from tests.support.shares import slow_first

# Who starts the tests in the background may ignore SIGINT; then each of their processes would.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no reason to fail: pytest-timeout ends what hangs.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """The SDK's descriptions of S3 are read once, and not from a megabyte of JSON per client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(create_loader))
        yield


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave `tests/browser` out unless it is asked for: `make test-browser` has a browser."""
    if collection_path == Path(__file__).parent / "browser":
        return None if any("browser" in argument for argument in config.args) else True
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Keep folders in memory; where the mark `slow` is left out, nothing starts a server."""
    if memory := folder_in_memory():
        os.environ.setdefault("TMPDIR", str(memory))
        tempfile.tempdir = None  # pytest may have asked before
    if "not slow" in str(config.option.markexpr):
        servers.refuse()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test that takes a server as a fixture; several workers begin with the slow ones."""
    for item in items:
        if servers.FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    if worker := getattr(config, "workerinput", None):
        items[:] = slow_first(items, worker["workercount"])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A SeaweedFS over http."""
    with S3Server.start() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL; each test takes a database of its own from it."""
    server = PostgresServer.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_tls_server(s3_server: S3Server) -> S3Server:
    """The same SeaweedFS, with the same buckets, over TLS."""
    return s3_server.over_tls


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """The name of a new, empty bucket on both."""
    name = f"bucket-{uuid.uuid4().hex}"
    s3_server.create_bucket(name)
    return name


@pytest.fixture(scope="session")
def running_graph() -> Iterator[FakeGraph]:
    """One process for all tests; take `graph`."""
    with FakeGraph.started() as graph:
        yield graph


@pytest.fixture
def graph(running_graph: FakeGraph) -> FakeGraph:
    """A stand-in for the Graph API with a new app, a new user and no Pages."""
    running_graph.reset()
    return running_graph


@pytest.fixture(scope="session")
def running_shopify() -> Iterator[FakeShopify]:
    """One process for all tests; take `shopify`."""
    with FakeShopify.started() as shopify:
        yield shopify


@pytest.fixture
def shopify(running_shopify: FakeShopify) -> FakeShopify:
    """A stand-in for Shopify with a new app and no shops."""
    running_shopify.reset()
    return running_shopify


_RANDOM = re.compile(r"AGE-SECRET-KEY-1\w{50}|age1\w{50}|[\w-]{43}=")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep keys that are made anew in each process out of the names of tests."""
    return argname if isinstance(val, str) and _RANDOM.search(val) else None
