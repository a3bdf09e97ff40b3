"""The error of our tree for each of botocore's, and the hint that goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as boto_errors
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from shared.errors import (
    ObjectArchived,
    ObjectExists,
    ObjectMissing,
    StoreAccessDenied,
    StoreClockSkew,
    StoreError,
    StoreFailing,
    StoreFull,
    StoreNoBucket,
    StoreNotS3,
    StoreOverwrites,
    StoreSuspended,
    StoreUnknownKey,
    StoreUnreachable,
    StoreUntrusted,
    StoreWrongSecret,
)
from shared.redaction import redact
from shared.store.spaces_access import SettingNames


class NotS3Error(boto_errors.BotoCoreError):
    """An answer with status 200 that no S3 server gives."""

    fmt = "the answer is not one of an S3 server: {what}"


# botocore translates most errors of urllib3, but not all that happen in the middle of a body.
FOREIGN_ERRORS = (
    boto_errors.ClientError,
    boto_errors.BotoCoreError,
    ResponseParserError,
    HTTPError,
    OSError,
)
_ForeignError = (
    boto_errors.ClientError | boto_errors.BotoCoreError | ResponseParserError | HTTPError | OSError
)

_KEY_HINT = "Check SPACES_API_KEY: it must be a Spaces access key that is still valid."
_BUCKET_HINT = "Check SPACES_BUCKET, SPACES_REGION and SPACES_ENDPOINT: they must belong together."
_FULL = (
    StoreFull,
    "the store is full, or its quota is used up",
    "Raise the quota at the store's provider, or keep less: lower the BACKUP_KEEP_ settings, then: "
    "./bot backups prune",
)
_REFUSALS: dict[str, tuple[type[StoreError], str, str]] = {
    "InvalidAccessKeyId": (StoreUnknownKey, "the access key is unknown", _KEY_HINT),
    "ExpiredToken": (StoreUnknownKey, "the access key has expired", _KEY_HINT),
    "InvalidToken": (StoreUnknownKey, "the access key is no longer valid", _KEY_HINT),
    "SignatureDoesNotMatch": (
        StoreWrongSecret,
        "SPACES_API_SECRET does not match SPACES_API_KEY",
        "Check SPACES_API_SECRET: copy it again, whole. If it is right, a proxy before the store "
        "changes the Host header: let it pass that on as it is.",
    ),
    "AccessDenied": (
        StoreAccessDenied,
        "this key has no right to do this in this bucket",
        "Give the key read and write rights to the bucket named in SPACES_BUCKET.",
    ),
    "InvalidObjectState": (
        ObjectArchived,
        "the object is archived, by a lifecycle rule of the bucket",
        "Restore it from the archive first (aws s3api restore-object), and end that rule.",
    ),
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "UserSuspended": (
        StoreSuspended,
        "the provider has suspended the account",
        "Log in at the store's provider: a bill or a complaint is open. Until then, set the "
        "SPACES_ settings of another store.",
    ),
    "RequestTimeTooSkewed": (
        StoreClockSkew,
        "this host's clock is off by more than 15 minutes",
        "Set the clock (timedatectl set-ntp true), then try again.",
    ),
    "NoSuchBucket": (StoreNoBucket, "the bucket does not exist there", _BUCKET_HINT),
    "InvalidBucketName": (StoreNoBucket, "the bucket's name is not valid", _BUCKET_HINT),
    "PermanentRedirect": (StoreNoBucket, "the bucket is in another region", _BUCKET_HINT),
    "AuthorizationHeaderMalformed": (
        StoreNoBucket,
        "the region is not that of the bucket",
        "Set SPACES_REGION and SPACES_ENDPOINT to the region of the bucket.",
    ),
    "SlowDown": (
        StoreFailing,
        "the server limits the rate of requests",
        "Wait; if it lasts, see status.digitalocean.com.",
    ),
}
# A conditional put that met another one: https://docs.aws.amazon.com/AmazonS3/latest/API/
# API_PutObject.html says to send it again.
CONFLICTS = frozenset({"ConditionalRequestConflict", "OperationAborted"})
_NO_ANSWER = (
    boto_errors.HTTPClientError,
    boto_errors.ConnectionError,
    boto_errors.IncompleteReadError,
    HTTPError,
    OSError,
)
# Of those, what ends before a request is sent.
_NO_CONNECTION = (
    boto_errors.EndpointConnectionError,
    boto_errors.ConnectTimeoutError,
    boto_errors.ProxyConnectionError,
)
_MISSING_CODES = {"NoSuchKey", "404", "NotFound"}
_NOT_S3_HINT = (
    "Check SPACES_ENDPOINT: it must be the API of the store, not its console. If it is right, a "
    "captive portal or a proxy of this network answers in its place."
)
_LONGEST_QUOTE = 300


@dataclass(frozen=True)
class Access:
    """How a bucket is reached, as its errors say it.

    `location` names the bucket, `hidden` is what no text may show. `proxy` is the proxy that the
    environment sets for the endpoint, and `unused` names a variable that sets one for other
    programs only. `names` is what the names of the settings begin with.
    """

    location: str
    host: str = ""
    hidden: tuple[str, ...] = ()
    proxy: str | None = None
    unused: str | None = None
    names: SettingNames = "SPACES"

    @classmethod
    def of(
        cls, location: str, endpoint: str, hidden: Iterable[str], names: SettingNames = "SPACES"
    ) -> Access:
        """With the proxy that botocore takes from the environment, without its password."""
        parts = urlsplit(endpoint)
        proxies = get_environ_proxies(endpoint)
        found = proxies.get(parts.scheme)
        variable = f"{parts.scheme.upper()}_PROXY"
        proxy = f"{_plain(_without_login(found))} of {variable}" if found else None
        unused = variable if found is None and "all" in proxies else None
        return cls(location, parts.hostname or "", tuple(hidden), proxy, unused, names)

    def error(self, kind: type[StoreError], message: str, hint: str) -> StoreError:
        """An error that names the proxy that may be to blame."""
        if self.proxy:
            return kind(
                f"{message}, through the proxy {self.proxy}",
                f"Check the proxy {self.proxy}, or reach the store without it: "
                f"NO_PROXY={self.host}. {hint}",
            )
        if self.unused:
            hint += (
                f" ALL_PROXY is set, but the store is reached through {self.unused} only: set that "
                "one, too, if this network needs a proxy."
            )
        return kind(message, hint)


def translate(error: _ForeignError, what: str, access: Access) -> StoreError:
    """The error of our tree for one of botocore's; its text has no secret in it."""
    found = _translate(error, f"{what} in {access.location}", access)
    if access.names == "SPACES":
        return found
    message, hint = (one.replace("SPACES_", "COPY_") for one in (found.message, found.hint))
    return type(found)(message, hint)


def _translate(error: _ForeignError, what: str, access: Access) -> StoreError:
    if isinstance(error, boto_errors.ClientError):
        return _translate_answer(error, what, access)
    if isinstance(error, NotS3Error | ResponseParserError):
        return _not_s3(what, access)
    if isinstance(error, boto_errors.SSLError):
        return access.error(
            StoreUntrusted,
            f"{what}: the server's TLS certificate cannot be verified",
            "Check SPACES_ENDPOINT; for a private authority, name its file in SPACES_CA_BUNDLE.",
        )
    if isinstance(error, _NO_ANSWER):
        why = "no connection"
        if not isinstance(error, _NO_CONNECTION):
            why = f"no complete answer ({type(error).__name__})"
        return access.error(
            StoreUnreachable,
            f"{what}: {why}",
            "Check SPACES_ENDPOINT and this host's network.",
        )
    return access.error(
        StoreError,
        f"{what}: the request could not be made ({type(error).__name__})",
        "Check the five SPACES_ settings.",
    )


def _translate_answer(error: boto_errors.ClientError, what: str, access: Access) -> StoreError:
    answer: dict[str, Any] = dict(error.response)
    named = answer.get("Error", {})
    code = _quoted(named.get("Code"), access)
    metadata = answer.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    said = _quoted(named.get("Message"), access)
    reason = f"{code}: {said}" if said and said != code else code
    if code in _REFUSALS:
        kind, happened, hint = _REFUSALS[code]
        message = f"{what}: {happened} ({reason})"
        return (
            access.error(kind, message, hint) if kind is StoreWrongSecret else kind(message, hint)
        )
    if status < 500 and _is_web_page(metadata.get("HTTPHeaders", {})):
        return _not_s3(what, access)
    if code in _MISSING_CODES:
        return ObjectMissing(
            f"{what}: there is no such object", "Check SPACES_BUCKET and BACKUP_PREFIX."
        )
    if code == "PreconditionFailed" or status == 412:
        return ObjectExists(
            f"{what}: an object with this key exists already", "Nothing was overwritten."
        )
    if status == 501 and error.operation_name == "PutObject":
        return StoreOverwrites(
            f"{what}: the store does not know If-None-Match: *, so it cannot refuse to overwrite "
            f"({reason})",
            "Use a store that honours conditional puts; this one would overwrite backups.",
        )
    if code in CONFLICTS:
        return StoreFailing(
            f"{what}: another request for the same key was in progress, also after retries "
            f"({reason})",
            "Try again; if it lasts, look for another program that writes there.",
        )
    if status >= 500:
        return StoreFailing(
            f"{what}: the server answered {status} ({reason}), also after retries",
            "See status.digitalocean.com.",
        )
    if status == 403:
        kind, happened, hint = _REFUSALS["AccessDenied"]
        return kind(f"{what}: {happened} ({reason or status})", hint)
    return StoreError(
        f"{what}: the server answered {status} ({reason or 'without a code'})",
        "See docs.digitalocean.com for this code of the Spaces API.",
    )


def refuse_web_page(response_dict: Any, **_: Any) -> None:
    """For botocore's `before-parse`: a page with status 200 is not what was asked for.

    Where it parses as XML, it would pass for an empty listing.
    """
    if response_dict["status_code"] < 300 and _is_web_page(response_dict["headers"]):
        with suppress(AttributeError):  # of an object it is a stream
            response_dict["body"].close()
        raise NotS3Error(what="a web page")


def _is_web_page(headers: Any) -> bool:
    return str(headers.get("content-type", "")).startswith("text/html")


def _not_s3(what: str, access: Access) -> StoreError:
    return access.error(StoreNotS3, f"{what}: what answers there is not an S3 server", _NOT_S3_HINT)


def _quoted(text: object, access: Access) -> str:
    """A text of the server on one line, without secrets, and bounded."""
    if not isinstance(text, str):
        return ""
    for secret in access.hidden:
        text = text.replace(secret, "[redacted]")
    found = _plain(redact(text))
    return found if len(found) <= _LONGEST_QUOTE else f"{found[:_LONGEST_QUOTE]}…"


def _plain(text: str) -> str:
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _without_login(url: str) -> str:
    return url.rpartition("@")[2].rpartition("//")[2].rstrip("/")
