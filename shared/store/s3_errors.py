"""The error of our tree for each of botocore's, and the hint that goes with it."""

from __future__ import annotations

from botocore import exceptions as boto_errors
from urllib3.exceptions import HTTPError

from shared.errors import (
    ObjectExists,
    ObjectMissing,
    StoreAccessDenied,
    StoreClockSkew,
    StoreError,
    StoreFailing,
    StoreNoBucket,
    StoreUnknownKey,
    StoreUnreachable,
    StoreUntrusted,
    StoreWrongSecret,
)

# botocore translates most errors of urllib3, but not all that happen in the middle of a body.
FOREIGN_ERRORS = (boto_errors.ClientError, boto_errors.BotoCoreError, HTTPError, OSError)
_ForeignError = boto_errors.ClientError | boto_errors.BotoCoreError | HTTPError | OSError

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
    "InvalidObjectState": (
        StoreAccessDenied,
        "the object is archived, by a lifecycle rule of the bucket",
        "Restore it from the archive first (aws s3api restore-object), and end that rule.",
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
            "Check SPACES_ENDPOINT and this host's network.",
        )
    return StoreError(
        f"{what}: the request could not be made ({type(error).__name__})",
        "Check the five SPACES_ settings.",
    )


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
            "See status.digitalocean.com.",
        )
    if status == 403:
        kind, happened, hint = _REFUSALS["AccessDenied"]
        return kind(f"{what}: {happened} ({code or status})", hint)
    return StoreError(
        f"{what}: the server answered {status} ({code or 'without a code'})",
        "See docs.digitalocean.com for this code of the Spaces API.",
    )
