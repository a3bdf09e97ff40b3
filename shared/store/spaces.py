"""`SpacesStore`: objects in DigitalOcean Spaces, or on any S3 server, through boto3.

The client's settings follow what Spaces (a Ceph RADOS Gateway) does in practice; each
comment names the behaviour that made the choice.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import boto3
import botocore.session
from botocore import exceptions as boto_errors
from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.config import Config
from urllib3.exceptions import HTTPError

from shared.errors import (
    ObjectExists,
    ObjectMissing,
    StoreAccessDenied,
    StoreClockSkew,
    StoreError,
    StoreFailing,
    StoreNoBucket,
    StoreOverwrites,
    StoreUnknownKey,
    StoreUnreachable,
    StoreUntrusted,
    StoreWrongSecret,
)
from shared.store.object_store import (
    CHUNK_BYTES,
    ByteProgress,
    ObjectInfo,
    Sink,
    StoreKind,
    callers_faults_unchanged,
    ignore_bytes,
    in_callers_code,
    is_own_echo,
    key_fault,
    lower_names,
)
from shared.store.s3_connections import OpenConnections
from shared.store.spaces_access import SpacesSettings

# botocore translates most errors of urllib3, but not all that happen in the middle of a body.
_ForeignError = boto_errors.ClientError | boto_errors.BotoCoreError | HTTPError | OSError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

_KEY_HINT = "Check SPACES_API_KEY: it must be a Spaces access key that is still valid."
_BUCKET_HINT = "Check SPACES_BUCKET, SPACES_REGION and SPACES_ENDPOINT: they must belong together."
_REFUSALS: dict[str, tuple[type[StoreError], str, str]] = {
    "InvalidAccessKeyId": (StoreUnknownKey, "the access key is unknown", _KEY_HINT),
    "ExpiredToken": (StoreUnknownKey, "the access key has expired", _KEY_HINT),
    "InvalidToken": (StoreUnknownKey, "the access key is no longer valid", _KEY_HINT),
    "SignatureDoesNotMatch": (
        StoreWrongSecret,
        "the secret does not match the access key",
        "Check SPACES_API_SECRET: copy it again, whole.",
    ),
    "AccessDenied": (
        StoreAccessDenied,
        "this key has no right to do this in this bucket",
        "Give the key read and write rights to the bucket named in SPACES_BUCKET.",
    ),
    "RequestTimeTooSkewed": (
        StoreClockSkew,
        "this host's clock is off by more than 15 minutes",
        "Set the clock (timedatectl set-ntp true), then try again.",
    ),
    "NoSuchBucket": (StoreNoBucket, "the bucket does not exist there", _BUCKET_HINT),
    "InvalidBucketName": (StoreNoBucket, "the bucket's name is not valid", _BUCKET_HINT),
    "PermanentRedirect": (StoreNoBucket, "the bucket is in another region", _BUCKET_HINT),
    "SlowDown": (
        StoreFailing,
        "the server limits the rate of requests",
        "Wait; if it lasts, see status.digitalocean.com.",
    ),
}
_NO_ANSWER = (
    boto_errors.HTTPClientError,
    boto_errors.ConnectionError,
    boto_errors.IncompleteReadError,
    HTTPError,
    OSError,
)
_MISSING_CODES = {"NoSuchKey", "404", "NotFound"}


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
        self._client = _client(settings, connect_timeout, read_timeout, attempts)
        self._client.meta.events.register("before-send.s3.PutObject", _mark_sending)
        self._connections = OpenConnections(self._client, answer_timeout)
        self._client.meta.events.register(
            "choose-signer.s3.PutObject",
            _sign_known_payload,  # type: ignore[arg-type] # its answer counts
        )

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
                self._put(key, _WatchedBody(body, progress, _known_sha256(metadata)), metadata)
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

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """See `ObjectStore.get`."""
        with self._translated("get", key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._checked(key))
        with closing(answer["Body"]) as stream:
            done = 0
            while True:
                with self._translated("get", key):
                    chunk = _arrived(stream)
                    if not chunk and done != answer["ContentLength"]:
                        raise boto_errors.ResponseStreamingError(error="the body was cut short")
                if not chunk:
                    return
                sink.write(chunk)  # outside the translation: the sink's disk is not the store
                done += len(chunk)
                progress(done)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`.

        S3 answers HEAD without a body, so a refusal has no name; a GET of no byte gives it.
        """
        with self._translated("head", key):
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=self._checked(key))
            except boto_errors.ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("403", "400", "404"):
                    with closing(self._client.get_object(Bucket=self._bucket, Key=key)["Body"]):
                        pass
                raise
            metadata = lower_names(found["Metadata"])
            return ObjectInfo(key, found["ContentLength"], found["LastModified"], metadata)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`.

        With the first version of the call: Spaces has had listings of the second that end
        after 1000 keys without an error.
        """
        pages = iter(
            self._client.get_paginator("list_objects").paginate(Bucket=self._bucket, Prefix=prefix)
        )
        while True:
            with self._translated("list", prefix):
                page = next(pages, None)
            if page is None:
                return
            for found in page.get("Contents", ()):
                yield ObjectInfo(found["Key"], found["Size"], found["LastModified"])

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`: one key a request, which every gateway understands."""
        with self._translated("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._checked(key))

    def abort_unfinished(
        self, prefix: str, before: datetime, could_be_ours: Callable[[str], bool]
    ) -> None:
        """See `ObjectStore.abort_unfinished`: Spaces keeps unfinished uploads for 30 days."""
        with self._translated("sweep", prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
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

    def _put(self, key: str, body: Any, metadata: Mapping[str, str]) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=self._checked(key),
            Body=body,
            Metadata=dict(metadata),
            ContentType=_content_type(key),
            IfNoneMatch="*",
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
        except (
            boto_errors.ClientError,
            boto_errors.BotoCoreError,
            HTTPError,
            OSError,
        ) as error:
            raise translate(error, f"{operation} {key}", self.location) from error


def _content_type(key: str) -> str:
    return "application/json" if key.endswith(".json") else "application/octet-stream"


def translate(error: _ForeignError, what: str, location: str) -> StoreError:
    """The error of our tree for one of botocore's; its text has no secret in it."""
    what = f"{what} in {location}"
    if isinstance(error, boto_errors.ClientError):
        return _translate_answer(error, what)
    if isinstance(error, boto_errors.SSLError):
        return StoreUntrusted(
            f"{what}: the server's TLS certificate cannot be verified",
            "Check SPACES_ENDPOINT; for a private authority, name its file in SPACES_CA_BUNDLE.",
        )
    if isinstance(error, _NO_ANSWER):
        return StoreUnreachable(
            f"{what}: no complete answer ({type(error).__name__})",
            "Check SPACES_ENDPOINT and this host's network; the app will retry.",
        )
    return StoreError(
        f"{what}: the request could not be made ({type(error).__name__})",
        "Check the five SPACES_ settings.",
    )


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


def _translate_answer(error: boto_errors.ClientError, what: str) -> StoreError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _REFUSALS:
        kind, happened, hint = _REFUSALS[code]
        return kind(f"{what}: {happened} ({code})", hint)
    if code in _MISSING_CODES:
        return ObjectMissing(
            f"{what}: there is no such object", "Check SPACES_BUCKET and BACKUP_PREFIX."
        )
    if code == "PreconditionFailed" or status == 412:
        return ObjectExists(
            f"{what}: an object with this key exists already", "Nothing was overwritten."
        )
    if status >= 500:
        return StoreFailing(
            f"{what}: the server answered {status} ({code}), also after retries",
            "See status.digitalocean.com; the app will retry.",
        )
    if status == 403:
        kind, happened, hint = _REFUSALS["AccessDenied"]
        return kind(f"{what}: {happened} ({code or status})", hint)
    return StoreError(
        f"{what}: the server answered {status} ({code or 'without a code'})",
        "See docs.digitalocean.com for this code of the Spaces API.",
    )


class _WatchedBody:
    """A seekable body that reports how far it was sent.

    boto3 reads a body twice, and again for each retry: to sign it (unless its SHA-256 is
    known), then, when it has sought the beginning and told `_mark_sending`, to send it. Only
    the sending is reported.
    """

    def __init__(self, body: BinaryIO, progress: ByteProgress, sha256: str | None) -> None:
        self._body = body
        self._progress = progress
        self.sha256 = sha256
        self.sending = False

    def read(self, size: int = -1) -> bytes:
        with in_callers_code():
            chunk = self._body.read(size)
            if chunk and self.sending:
                self._progress(self._body.tell())
        return chunk

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.sending = False
        with in_callers_code():
            return self._body.seek(offset, whence)

    def tell(self) -> int:
        with in_callers_code():
            return self._body.tell()


def _mark_sending(request: Any, **_: Any) -> None:
    if isinstance(request.body, _WatchedBody):
        request.body.sending = True


def _known_sha256(metadata: Mapping[str, str]) -> str | None:
    known = metadata.get("sha256", "")
    return known if re.fullmatch("[0-9a-f]{64}", known) else None


class _KnownPayloadAuth(S3SigV4Auth):
    """Signature version 4 of S3, without reading a body whose SHA-256 is known."""

    def payload(self, request: Any) -> Any:
        """The SHA-256 of the body, in hex."""
        known = request.body.sha256 if isinstance(request.body, _WatchedBody) else None
        return known or super().payload(request)


def _sign_known_payload(**_: Any) -> str:
    return _KNOWN_PAYLOAD


_KNOWN_PAYLOAD = "s3v4-known-payload"
AUTH_TYPE_MAPS[_KNOWN_PAYLOAD] = _KnownPayloadAuth  # where botocore looks signers up


def _client(
    settings: SpacesSettings, connect_timeout: float, read_timeout: float, attempts: int
) -> S3Client:
    # Without these, a stray AWS_PROFILE, or a broken ~/.aws/config, stops the client even
    # when key, secret, region and endpoint are all given.
    session = boto3.session.Session(
        botocore_session=botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
                "ca_bundle": (None, None, None, None),
            }
        )
    )
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path", "payload_signing_enabled": True},
        # A CRC32 trailer over https gets 411 from older gateways.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        tcp_keepalive=True,
    )
    try:
        return session.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.api_key,
            aws_secret_access_key=settings.api_secret,
            verify=settings.ca_bundle,
            config=config,
        )
    except (boto_errors.BotoCoreError, ValueError) as error:
        raise StoreError(
            f"an S3 client for {settings.endpoint} could not be created ({type(error).__name__})",
            "Check the five SPACES_ settings.",
        ) from error
