"""Tests of `shared.store.s3_errors`: every error of botocore becomes one of ours."""

from __future__ import annotations

import inspect
import ssl
from dataclasses import replace
from typing import Any

import pytest
from botocore import exceptions as boto_errors

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
    StoreOverwrites,
    StoreSuspended,
    StoreUnknownKey,
    StoreUnreachable,
    StoreUntrusted,
    StoreWrongSecret,
)
from shared.store.s3_errors import Access, translate

KEY, SECRET = "DO00EXAMPLEKEY", "example-secret-of-spaces"


def subclasses_of(kind: type[Exception]) -> list[type[Exception]]:
    found = [kind]
    for child in kind.__subclasses__():
        found += [nested for nested in subclasses_of(child) if nested not in found]
    return found


FOREIGN = [
    *(
        kind
        for kind in subclasses_of(boto_errors.BotoCoreError)
        if kind.__module__ == boto_errors.__name__
    ),
    *(
        kind
        for kind in subclasses_of(boto_errors.ClientError)
        if kind.__module__ == boto_errors.__name__
    ),
    OSError,
    ConnectionResetError,
    TimeoutError,
    ssl.SSLError,
]
TELLTALE = f"{KEY} {SECRET}"
ACCESS = Access("bucket", hidden=(KEY, SECRET))


def made(kind: type[Exception]) -> Any:
    """An error of this class that knows key and secret, as an error of botocore may."""
    if issubclass(kind, boto_errors.ClientError):
        answer = {
            "Error": {"Code": "Unheard", "Message": TELLTALE, "AWSAccessKeyId": KEY},
            "ResponseMetadata": {"HTTPStatusCode": 418},
        }
        return kind(answer, "PutObject")  # type: ignore[arg-type]
    error = kind.__new__(kind)
    error.args = (TELLTALE,)
    vars(error)["kwargs"] = {"error": TELLTALE, "endpoint_url": TELLTALE}
    return error


def test_the_classes_of_botocore_are_all_looked_at() -> None:
    """The list that the next test runs over has what botocore's module of errors defines."""
    defined = {
        kind
        for _, kind in inspect.getmembers(boto_errors, inspect.isclass)
        if kind.__module__ == boto_errors.__name__ and issubclass(kind, Exception)
    }

    assert len(FOREIGN) > 90
    # Warnings, and two faults in the models of an API, which ship with botocore.
    assert {kind.__name__ for kind in defined - set(FOREIGN)} <= {
        "ImminentRemovalWarning",
        "UnsupportedTLSVersionWarning",
        "MissingServiceIdError",
        "UndefinedModelAttributeError",
    }


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_every_error_of_botocore_is_translated(kind: type[Exception]) -> None:
    """Each class becomes a `StoreError` with a hint, and shows neither key nor secret."""
    found = translate(
        made(kind), "put a.db", replace(ACCESS, location="bucket at https://example.com")
    )

    assert isinstance(found, StoreError)
    assert found.message.startswith("put a.db in bucket at https://example.com: ")
    assert found.hint
    for secret in (KEY, SECRET):
        assert secret not in f"{found!s} {found!r} {found.message} {found.hint}"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (boto_errors.SSLError, StoreUntrusted),
        (boto_errors.EndpointConnectionError, StoreUnreachable),
        (boto_errors.ConnectTimeoutError, StoreUnreachable),
        (boto_errors.ReadTimeoutError, StoreUnreachable),
        (boto_errors.ProxyConnectionError, StoreUnreachable),
        (boto_errors.ConnectionClosedError, StoreUnreachable),
        (boto_errors.HTTPClientError, StoreUnreachable),
        (boto_errors.ResponseStreamingError, StoreUnreachable),
        (boto_errors.IncompleteReadError, StoreUnreachable),
        (ConnectionResetError, StoreUnreachable),
        (boto_errors.NoCredentialsError, StoreError),
        (boto_errors.ParamValidationError, StoreError),
    ],
)
def test_a_class_of_botocore_becomes_its_own_class(
    kind: type[Exception], expected: type[StoreError]
) -> None:
    """What the network did, what TLS refused and what was never sent are told apart."""
    assert type(translate(made(kind), "put a.db", Access("bucket"))) is expected


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("InvalidAccessKeyId", 403, StoreUnknownKey),
        ("ExpiredToken", 400, StoreUnknownKey),
        ("InvalidToken", 400, StoreUnknownKey),
        ("SignatureDoesNotMatch", 403, StoreWrongSecret),
        ("AccessDenied", 403, StoreAccessDenied),
        ("403", 403, StoreAccessDenied),
        ("QuotaExceeded", 403, StoreFull),
        ("XMinioStorageFull", 507, StoreFull),
        ("UserSuspended", 403, StoreSuspended),
        ("InvalidObjectState", 403, ObjectArchived),
        ("NotImplemented", 501, StoreOverwrites),
        ("InvalidRequest", 400, StoreError),
        ("AuthorizationHeaderMalformed", 400, StoreNoBucket),
        ("ConditionalRequestConflict", 409, StoreFailing),
        ("RequestTimeTooSkewed", 403, StoreClockSkew),
        ("NoSuchBucket", 404, StoreNoBucket),
        ("InvalidBucketName", 400, StoreNoBucket),
        ("PermanentRedirect", 301, StoreNoBucket),
        ("NoSuchKey", 404, ObjectMissing),
        ("404", 404, ObjectMissing),
        ("PreconditionFailed", 412, ObjectExists),
        ("412", 412, ObjectExists),
        ("SlowDown", 503, StoreFailing),
        ("InternalError", 500, StoreFailing),
        ("", 502, StoreFailing),
        ("418", 418, StoreError),
        ("", 0, StoreError),
    ],
)
def test_an_answer_becomes_its_own_class(
    code: str, status: int, expected: type[StoreError]
) -> None:
    """Each code of S3 that a person can do something about has a class and a hint of its own."""
    answer = {"Error": {"Code": code, "Message": TELLTALE}, "ResponseMetadata": {}}
    if status:
        answer["ResponseMetadata"] = {"HTTPStatusCode": status}  # type: ignore[dict-item]

    found = translate(boto_errors.ClientError(answer, "PutObject"), "put a.db", ACCESS)  # type: ignore[arg-type]

    assert type(found) is expected
    assert found.hint
    assert KEY not in found.message
    assert SECRET not in found.message


def test_an_answer_without_anything_is_a_store_error() -> None:
    """An answer that has neither a code nor a status is still translated."""
    found = translate(boto_errors.ClientError({}, "PutObject"), "put a.db", ACCESS)

    assert type(found) is StoreError
