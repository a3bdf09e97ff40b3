"""What a bucket holds, found out without this program: plain reads, hashlib, sqlite3, zstandard.

It reads the manifests as JSON, as `docs/format.md` describes them, and believes nothing that it has
not checked: an object has the SHA-256 that its manifest gives, and inside is a database that SQLite
finds sound.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import zstandard

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


class Bucket(Protocol):
    """A bucket as somebody with its key has it, without this program."""

    def list_keys(self) -> list[str]:
        """All keys, in order."""
        ...

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        ...

    def write(self, key: str, body: bytes) -> None:
        """Give an object other bytes."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object."""
        ...


class FolderBucket:
    """The folder of the embedded store."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list_keys(self) -> list[str]:
        """See `Bucket.list_keys`."""
        files = (path.relative_to(self._root) for path in self._root.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in files if not path.parts[0].startswith("."))

    def read(self, key: str) -> bytes:
        """See `Bucket.read`."""
        return (self._root / key).read_bytes()

    def write(self, key: str, body: bytes) -> None:
        """See `Bucket.write`."""
        (self._root / key).write_bytes(body)

    def delete(self, key: str) -> None:
        """See `Bucket.delete`."""
        (self._root / key).unlink()


class S3Bucket:
    """A bucket of a server that speaks S3."""

    def __init__(self, client: S3Client, name: str) -> None:
        self._client = client
        self._name = name

    def list_keys(self) -> list[str]:
        """See `Bucket.list_keys`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        """See `Bucket.read`."""
        return self._client.get_object(Bucket=self._name, Key=key)["Body"].read()

    def write(self, key: str, body: bytes) -> None:
        """See `Bucket.write`."""
        metadata = self._client.head_object(Bucket=self._name, Key=key)["Metadata"]
        self._client.put_object(Bucket=self._name, Key=key, Body=body, Metadata=metadata)

    def delete(self, key: str) -> None:
        """See `Bucket.delete`."""
        self._client.delete_object(Bucket=self._name, Key=key)


class Oracle:
    """Says which rows the sets in a bucket bring back."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._known: dict[str, frozenset[str] | None] = {}

    def sets(self, prefix: str) -> dict[str, frozenset[str]]:
        """The ids of all whole sets below a prefix, each with the keys that all its files have."""
        keys = set(self._bucket.list_keys())
        found = {}
        for key in sorted(keys):
            if key.startswith(f"{prefix}sets/") and key.endswith("/manifest.json"):
                rows = self._rows_of_set(self._bucket.read(key), keys)
                if rows is not None:
                    found[key.split("/")[-2]] = rows
        return found

    def _rows_of_set(self, document: bytes, keys: set[str]) -> frozenset[str] | None:
        try:
            manifest: dict[str, Any] = json.loads(document)
        except ValueError:
            return None
        files = [self._rows_of_file(one, keys) for one in manifest["objects"]]
        if not manifest["complete"] or None in files:
            return None
        return frozenset.intersection(*(rows for rows in files if rows is not None))

    def _rows_of_file(self, stored: Mapping[str, Any], keys: set[str]) -> frozenset[str] | None:
        if stored["key"] not in keys:
            return None
        body = self._bucket.read(stored["key"])
        digest = hashlib.sha256(body).hexdigest()
        if digest != stored["sha256"]:
            return None
        if digest not in self._known:
            if stored["key"].endswith(".zst"):
                body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
            self._known[digest] = _first_column(body, stored["source"])
        return self._known[digest]


def _first_column(database: bytes, table: str) -> frozenset[str] | None:
    """The first column of a table; None where SQLite finds the database damaged."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(database)
        try:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return None
            rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
        except sqlite3.DatabaseError:
            return None
    return frozenset(str(row[0]) for row in rows)
