"""How a body goes out: read once, signed with the SHA-256 that is known, and watched on its way."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

from shared.store.object_store import ByteProgress, in_callers_code

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


def watch_uploads(client: S3Client) -> None:
    """Let `client` treat a `WatchedBody` as its class says; call it before the first request."""
    client.meta.events.register("before-send.s3.PutObject", _mark_sending)
    client.meta.events.register(
        "choose-signer.s3.PutObject",
        _sign_known_payload,  # type: ignore[arg-type] # its answer counts
    )


class WatchedBody:
    """A seekable body that reports how far it was sent; `metadata` may name its SHA-256.

    boto3 reads a body twice, and again for each retry: to sign it (unless its SHA-256 is
    known), then, when it has sought the beginning and told `_mark_sending`, to send it. Only
    the sending is reported.
    """

    def __init__(self, body: BinaryIO, progress: ByteProgress, metadata: Mapping[str, str]) -> None:
        self._body = body
        self._progress = progress
        named = metadata.get("sha256", "")
        self.sha256 = named if re.fullmatch("[0-9a-f]{64}", named) else None
        self.sending = False

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the body; reports how far it is when they are sent."""
        with in_callers_code():
            chunk = self._body.read(size)
            if chunk and self.sending:
                self._progress(self._body.tell())
        return chunk

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the body, which begins another reading."""
        self.sending = False
        with in_callers_code():
            return self._body.seek(offset, whence)

    def tell(self) -> int:
        """The place in the body."""
        with in_callers_code():
            return self._body.tell()


def _mark_sending(request: Any, **_: Any) -> None:
    if isinstance(request.body, WatchedBody):
        request.body.sending = True


class _KnownPayloadAuth(S3SigV4Auth):
    """Signature version 4 of S3, without reading a body whose SHA-256 is known."""

    def payload(self, request: Any) -> Any:
        """The SHA-256 of the body, in hex."""
        known = request.body.sha256 if isinstance(request.body, WatchedBody) else None
        return known or super().payload(request)


def _sign_known_payload(**_: Any) -> str:
    return _KNOWN_PAYLOAD


_KNOWN_PAYLOAD = "s3v4-known-payload"
AUTH_TYPE_MAPS[_KNOWN_PAYLOAD] = _KnownPayloadAuth  # where botocore looks signers up
