"""`SpacesStore`: objects in DigitalOcean Spaces, or on any S3 server, through boto3."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from botocore import exceptions as boto_errors
from botocore.httpsession import where
from urllib3.exceptions import HTTPError

from shared.errors import (
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreOverwrites,
)
from shared.store.object_store import (
    CHUNK_BYTES,
    ByteProgress,
    ObjectInfo,
    Sink,
    StoreKind,
    callers_faults_unchanged,
    ignore_bytes,
    is_own_echo,
    key_fault,
    lower_names,
)
from shared.store.s3_client import make_client
from shared.store.s3_connections import OpenConnections
from shared.store.s3_errors import FOREIGN_ERRORS, Access, NotS3Error, translate
from shared.store.s3_uploads import WatchedBody, watch_uploads
from shared.store.spaces_access import SpacesSettings

UNLESS_THERE: Mapping[str, Any] = {"IfNoneMatch": "*"}


def certificates() -> Path:
    """The certificates of authorities that a client reads at each connection by default."""
    return Path(where())


class SpacesStore:
    """An `ObjectStore` in one bucket, with one client for all threads.

    `connect_timeout` and `read_timeout` are for each wait on a socket, `answer_timeout` is for
    an answer as a whole, but for the body of an object.
    """

    kind: StoreKind = "spaces"
    offsite = True

    def __init__(
        self,
        settings: SpacesSettings,
        *,
        connect_timeout: float = 10,
        read_timeout: float = 60,
        attempts: int = 5,
        answer_timeout: float = 60,
    ) -> None:
        self._bucket = settings.bucket
        self._endpoint = settings.endpoint
        self._client = make_client(settings, connect_timeout, read_timeout, attempts)
        hidden = (settings.api_key, settings.api_secret)
        self._access = Access.of(self.location, settings.endpoint, hidden, settings.names)
        watch_uploads(self._client)
        self._connections = OpenConnections(self._client, answer_timeout)
        # Here, because the first reads a file of the SDK's.
        self._listing = self._client.get_paginator("list_objects")
        self._uploads = self._client.get_paginator("list_multipart_uploads")

    @property
    def location(self) -> str:
        """Bucket and endpoint."""
        return f"{self._bucket} at {self._endpoint}"

    def check(self, key: str, body: bytes) -> None:
        """Put a small object under `key` with `If-None-Match: *` until the server says 412.

        A server that does not know the header overwrites without a word. The object's bytes
        are always the same, so being overwritten does no harm to it.
        """
        for _ in range(2):
            try:
                with self._translated("check", key):
                    self._put(key, io.BytesIO(body), {})
            except ObjectExists:
                return
        try:
            self.head(key)  # a server that keeps nothing would look like one that overwrites
        except ObjectMissing as error:
            raise StoreError(
                f"{self.location} accepted {key}, but does not have it",
                "Do not use this store; see the status page of its provider.",
            ) from error
        raise StoreOverwrites(
            f"{self.location} accepted a second put of {key} with If-None-Match: *",
            "Use a store that honours conditional puts; this one would overwrite backups.",
        )

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """See `ObjectStore.put`: one PutObject, at most 5 GB.

        It is signed with the SHA-256 that `metadata` names, so that the server checks the body
        against what the caller meant to send, and the body is read only once.
        """
        size = body.seek(0, os.SEEK_END)
        body.seek(0)
        try:
            with callers_faults_unchanged(), self._translated("put", key):
                self._put(key, WatchedBody(body, progress, metadata), metadata)
        except ObjectExists:
            # A retry after a lost answer meets its own object.
            if not is_own_echo(self.head(key), size, metadata):
                raise

    def replace(self, key: str, body: bytes) -> None:
        """See `DocumentStore.replace`."""
        with self._translated("replace", key):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._checked(key),
                Body=body,
                ContentType=_content_type(key),
            )

    def get(
        self,
        key: str,
        sink: Sink,
        progress: ByteProgress = ignore_bytes,
        *,
        version: str | None = None,
    ) -> None:
        """See `ObjectStore.get`; of a `version` of it, where one is given."""
        of = {"VersionId": version} if version else {}
        with self._translated("get", key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._checked(key), **of)  # type: ignore[arg-type]
        with closing(answer["Body"]) as stream:
            done = 0
            while True:
                with self._translated("get", key):
                    chunk = _arrived(stream)
                    if not chunk and done != answer.get("ContentLength", done):
                        raise boto_errors.ResponseStreamingError(error="the body was cut short")
                if not chunk:
                    return
                sink.write(chunk)  # outside the translation: the sink's disk is not the store
                done += len(chunk)
                progress(done)

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """See `ObjectStore.head`; of a `version` of it, where one is given.

        S3 answers HEAD without a body, so a refusal has no name; a GET of no byte gives it.
        """
        with self._translated("head", key):
            try:
                of = {"VersionId": version} if version else {}
                found = self._client.head_object(
                    Bucket=self._bucket,
                    Key=self._checked(key),
                    **of,  # type: ignore[arg-type]
                )
            except boto_errors.ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("403", "400", "404"):
                    with closing(self._client.get_object(Bucket=self._bucket, Key=key)["Body"]):
                        pass
                raise
            metadata = lower_names(found["Metadata"])
            size, modified_at = found["ContentLength"], found["LastModified"]
            return ObjectInfo(key, size, modified_at, metadata, found.get("ETag", ""))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`.

        With the first version of the call: Spaces has had listings of the second that end
        after 1000 keys without an error.
        """
        pages = iter(self._listing.paginate(Bucket=self._bucket, Prefix=prefix))
        while True:
            with self._translated("list", prefix):
                page = next(pages, None)
                # Every S3 server says so; an answer of anything else would pass for no objects.
                if page is not None and "IsTruncated" not in page:
                    raise NotS3Error(what="no listing")
            if page is None:
                return
            for found in page.get("Contents", ()):
                size, modified_at = found["Size"], found["LastModified"]
                yield ObjectInfo(found["Key"], size, modified_at, tag=found.get("ETag", ""))

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`: one key a request, which every gateway understands."""
        with self._translated("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._checked(key))

    def abort_unfinished(
        self, prefix: str, before: datetime, could_be_ours: Callable[[str], bool]
    ) -> None:
        """See `ObjectStore.abort_unfinished`: Spaces keeps unfinished uploads for 30 days."""
        with self._translated("sweep", prefix):
            pages = self._uploads.paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < before and could_be_ours(upload["Key"]):
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )

    def give_up(self, grace: float) -> None:
        """See `Interruptible.give_up`."""
        self._connections.close_after(grace)

    def versioning(self) -> str:
        """`Enabled`, `Suspended` or `Off`: whether the bucket keeps what is deleted."""
        with self._translated("ask versioning", ""):
            answer = self._client.get_bucket_versioning(Bucket=self._bucket)
            return str(answer.get("Status", "Off"))

    # --- requests -----------------------------------------------------------------------

    def _put(
        self,
        key: str,
        body: Any,
        metadata: Mapping[str, str],
        more: Mapping[str, Any] = UNLESS_THERE,
    ) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=self._checked(key),
            Body=body,
            Metadata=dict(metadata),
            ContentType=_content_type(key),
            **more,
        )

    def _checked(self, key: str) -> str:
        if fault := key_fault(key):
            raise StoreError(f"{key!r} is not a key: {fault}")
        return key

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        try:
            with self._connections.answering():
                yield
        except FOREIGN_ERRORS as error:
            raise translate(error, f"{operation} {key}", self._access) from error


def _content_type(key: str) -> str:
    return "application/json" if key.endswith(".json") else "application/octet-stream"


def _arrived(stream: Any) -> bytes:
    """Up to a chunk of what has come, or no byte at the end of the body.

    `StreamingBody.read` waits until a whole chunk is there: behind a server that sends one
    byte a second nobody would look at the run's deadline for days.
    """
    try:
        chunk: bytes = stream._raw_stream.read1(CHUNK_BYTES)
    except HTTPError as error:
        raise boto_errors.ResponseStreamingError(error=error) from error
    return chunk
