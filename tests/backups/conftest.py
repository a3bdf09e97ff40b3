"""Settings for the tests of `backups`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings

from shared.store.directory import DirectoryStore
from shared.store.spaces import SpacesStore
from shared.store.spaces_access import SpacesSettings
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.records import INSTANT
from tests.support.s3_server import S3Server
from tests.support.store_wrappers import WatchedStore

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

# On a busy machine one example may take long; that is no fault of what is tested.
settings.register_profile("backups", deadline=None)
settings.load_profile("backups")


class LogLines(logging.Handler):
    """The records that our loggers emit, whatever else is set up for them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)

    def text(self, level: int = logging.INFO) -> str:
        """The messages of at least a level, with the values that go with them, line by line."""
        return "\n".join(
            f"{record.name}: {record.getMessage()} {getattr(record, 'fields', {})}"
            for record in self.records
            if record.levelno >= level
        )


class SharedBucket(NamedTuple):
    """One bucket for many tests, and a plain client: both take long to make."""

    name: str
    client: S3Client
    settings: SpacesSettings


@pytest.fixture(scope="session")
def _shared_bucket(s3_server: S3Server) -> SharedBucket:
    name = "tests-of-backups"
    s3_server.create_bucket(name)
    return SharedBucket(name, s3_server.client(), s3_server.settings(name))


@pytest.fixture
def empty_bucket(_shared_bucket: SharedBucket) -> SharedBucket:
    """The shared bucket, emptied."""
    name, client, _ = _shared_bucket
    for found in client.list_objects(Bucket=name).get("Contents", ()):
        client.delete_object(Bucket=name, Key=found["Key"])
    return _shared_bucket


@pytest.fixture(scope="session")
def _shared_spaces_store(_shared_bucket: SharedBucket) -> SpacesStore:
    return SpacesStore(_shared_bucket.settings)


@pytest.fixture
def empty_spaces_store(
    _shared_spaces_store: SpacesStore, empty_bucket: SharedBucket
) -> SpacesStore:
    """A store in the shared bucket, emptied."""
    return _shared_spaces_store


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """What the loggers below `backups` emit during a test, from INFO on."""
    logger, handler = logging.getLogger("backups"), LogLines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands at `records.INSTANT`."""
    return FixedClock(INSTANT)


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    """An empty folder as a store, which the test watches."""
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """A service over that store, at that clock."""
    with open_bench(tmp_path, store, rows=3, clock=clock) as bench:
        yield bench


@pytest.fixture(params=["directory", pytest.param("spaces", marks=pytest.mark.slow)])
def either_store(request: pytest.FixtureRequest, tmp_path: Path) -> WatchedStore:
    """Both stores, one after the other: the folder, and a bucket of a real S3 server."""
    if request.param == "spaces":
        return WatchedStore(request.getfixturevalue("empty_spaces_store"))
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def either_bench(tmp_path: Path, either_store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """A service over both stores, one after the other."""
    with open_bench(tmp_path, either_store, rows=3, clock=clock) as bench:
        yield bench
