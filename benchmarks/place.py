"""`Place`: a work folder with live databases of any size, and a real S3 server."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from cryptography.fernet import Fernet

from benchmarks.databases import Pair, Values, make_pair
from shared.files import folder_in_memory
from shared.store.spaces_access import SpacesSettings
from tests.support.s3_server import S3Server

REPOSITORY = Path(__file__).resolve().parents[1]
ROOM_IN_MEMORY = 4 * 1024**3
STORE_YIELDS = ", store yields"  # what a name ends with that was measured so


@dataclass(frozen=True)
class Place:
    """What the contenders of one run of the benchmark share."""

    folder: Path
    server: S3Server
    key: str
    values: Values
    endpoint: str
    yields: bool = False  # its server takes only the processor time that nobody else wants
    _pairs: dict[float, Pair] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def pair(self, megabytes: float) -> Pair:
        """The live databases of a size; made once."""
        if megabytes not in self._pairs:
            print(f"making databases of {megabytes:g} MB ...", file=sys.stderr, flush=True)
            made = make_pair(self.folder / f"live-{megabytes:g}", megabytes, self.values)
            self._pairs[megabytes] = made
        return self._pairs[megabytes]

    def copy_of(self, pair: Pair) -> Pair:
        """The same databases again, for a contender that writes to what it backs up."""
        folder = self.new_folder("live-copy")
        for path in pair.paths:
            shutil.copyfile(path, folder / path.name)
        return Pair(folder)

    def new_folder(self, name: str) -> Path:
        """An empty folder."""
        folder = self.folder / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        return folder

    def new_bucket(self) -> str:
        """An empty bucket."""
        name = f"bucket-{next(self._numbers)}"
        self.server.create_bucket(name)
        return name

    def drop_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it; SeaweedFS drops its files at once."""
        with suppress(self.server.client().exceptions.NoSuchBucket):
            self.server.client().delete_bucket(Bucket=name)

    def objects(self, bucket: str) -> dict[str, tuple[int, datetime]]:
        """Size and time of all that is in a bucket, by key."""
        pages = self.server.client().get_paginator("list_objects").paginate(Bucket=bucket)
        return {
            found["Key"]: (found["Size"], found["LastModified"])
            for page in pages
            for found in page.get("Contents", [])
        }

    def spaces(self, bucket: str) -> SpacesSettings:
        """The settings of a bucket."""
        return replace(self.server.settings(bucket), endpoint=self.endpoint)

    def through(self, endpoint: str) -> Place:
        """The same place, seen through a proxy in front of its server."""
        return replace(self, endpoint=endpoint)

    @contextmanager
    def yielding(self) -> Iterator[Place]:
        """The same place with another server, one that yields, for as long as the block lasts.

        A store elsewhere takes no processor from the app, and nothing of its disk; such a one takes
        next to nothing: it keeps its files in memory, if there is room.
        """
        with S3Server.start(yielding=True, within=folder_in_memory(ROOM_IN_MEMORY)) as server:
            yield replace(self, server=server, endpoint=server.endpoint, yields=True)

    def named(self, who: str) -> str:
        """What the tables call somebody who was measured here."""
        return f"{who}{STORE_YIELDS}" if self.yields else who

    def settings(self, pair: Pair, bucket: str, more: Mapping[str, str]) -> dict[str, str]:
        """The environment of an installation of ours with these databases."""
        spaces = self.spaces(bucket)
        far = datetime.now(UTC) + timedelta(hours=12)
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "TOKEN_DB_PATH": str(pair.tokens),
            "SESSION_DB_PATH": str(pair.sessions),
            "BACKUP_DIR": str(self.new_folder("backups")),
            "BACKUP_SCHEDULE": f"{far.minute} {far.hour} * * *",
            "BACKUP_CHANGE_DELAY": "0",  # runs come when the benchmark asks for them
            "SPACES_API_KEY": spaces.api_key,
            "SPACES_API_SECRET": spaces.api_secret,
            "SPACES_REGION": spaces.region,
            "SPACES_BUCKET": spaces.bucket,
            "SPACES_ENDPOINT": spaces.endpoint,
            "ADMIN_TOKEN": "admin-token-of-the-benchmarks",
            "STATE_TOKEN_SECRET": "a-secret-of-the-benchmarks",
            "TOKEN_ENCRYPTION_KEYS": self.key,
            **more,
        }

    def aws_environment(self) -> dict[str, str]:
        """The environment of a program that talks to S3 as AWS's own do."""
        spaces = self.spaces("")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": spaces.api_key,
            "AWS_SECRET_ACCESS_KEY": spaces.api_secret,
            "AWS_DEFAULT_REGION": spaces.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def open_place() -> Iterator[Place]:
    """A new place; everything of it is gone after the block."""
    key = Fernet.generate_key().decode()
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as name,
        S3Server.start() as server,
    ):
        yield Place(Path(name), server, key, Values(key), server.endpoint)
