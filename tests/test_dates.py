"""What `make test-dates` rests on: the server before the S3 server, and the dates themselves."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.resigner import Resigner, signature

REPOSITORY = Path(__file__).parents[1]
FAKED = datetime(2031, 2, 28, 23, 59, 30, tzinfo=UTC)
OFFSET = timedelta(days=1_000)
TARGET = "/bucket/backups/tokens%202026.db?list-type=2&prefix=a%2Fb&versions"


def signed(
    monkeypatch: pytest.MonkeyPatch, at: datetime, secret: str, *, key: str = "KEY", host: str
) -> dict[str, str]:
    """The headers of a request as botocore signs it at an instant."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at.replace(tzinfo=None))
    request = AWSRequest("PUT", f"http://{host}{TARGET}", data=b"body")
    request.headers["Host"] = host
    request.headers["x-amz-meta-set-id"] = "of  a   set"
    botocore.auth.S3SigV4Auth(Credentials(key, secret), "s3", "eu-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@pytest.fixture
def resigner() -> Resigner:
    return Resigner({"KEY": "right"}, OFFSET, "127.0.0.1:9")


def test_a_right_signature_becomes_one_of_the_real_date(
    resigner: Resigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server gets what botocore would have signed without faketime."""
    headers = signed(monkeypatch, FAKED, "right", host="127.0.0.1:8")

    sent = resigner.request("PUT", TARGET, headers)

    wanted = signed(monkeypatch, FAKED - OFFSET, "right", host="127.0.0.1:9")
    assert sent["x-amz-date"] == wanted["x-amz-date"]
    assert sent["authorization"].replace(" ", "") == wanted["authorization"].replace(" ", "")


@pytest.mark.parametrize("fault", ["secret", "key", "header", "target", "method"])
def test_a_wrong_signature_is_wrong_at_the_server_too(
    resigner: Resigner, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Whatever does not fit the signature, no right one is made of it."""
    headers = signed(
        monkeypatch,
        FAKED,
        "wrong" if fault == "secret" else "right",
        key="OTHER" if fault == "key" else "KEY",
        host="127.0.0.1:8",
    )
    if fault == "header":
        headers["x-amz-meta-set-id"] = "of another set"
    method = "DELETE" if fault == "method" else "PUT"
    target = f"{TARGET}&more=1" if fault == "target" else TARGET

    sent = resigner.request(method, target, headers)

    names = sent["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    right = signature("right", method, target, sent, names, "eu-1")
    assert sent["authorization"].partition("Signature=")[2] != right


def test_a_date_that_is_skewed_stays_as_skewed(
    resigner: Resigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server sees the difference that there is to the faked clock, and judges it."""
    skewed = FAKED - timedelta(minutes=16)

    sent = resigner.request("PUT", TARGET, signed(monkeypatch, skewed, "right", host="127.0.0.1:8"))

    assert sent["x-amz-date"] == (skewed - OFFSET).strftime("%Y%m%dT%H%M%SZ")


def test_the_dates_of_answers_are_on_the_faked_clock() -> None:
    """Headers and listings move by the offset; everything else stays as the server sent it."""
    resigner = Resigner({}, timedelta(days=1), "127.0.0.1:9")
    listing = b"<Key>2026</Key><LastModified>2026-12-31T23:59:59.120Z</LastModified>"

    assert resigner.answer_header("Date", "Sat, 28 Feb 2026 08:00:00 GMT") == (
        "Sun, 01 Mar 2026 08:00:00 GMT"
    )
    assert resigner.answer_header("ETag", "Sat, 28 Feb 2026 08:00:00 GMT") == (
        "Sat, 28 Feb 2026 08:00:00 GMT"
    )
    assert resigner.answer_body(listing) == (
        b"<Key>2026</Key><LastModified>2027-01-01T23:59:59.120Z</LastModified>"
    )


def run_dates(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`tests/dates.sh`, which runs no test but only collects."""
    return subprocess.run(
        ["tests/dates.sh", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTEST_ARGUMENTS": "--collect-only tests/shared/test_clock.py -n 0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_unknown_date_is_a_usage_error() -> None:
    """It is named, with those that there are."""
    done = run_dates("yesterday")

    assert done.returncode != 0
    assert "no date yesterday; there are: day month leap newyear years" in done.stderr


@pytest.mark.parametrize(
    ("commit", "name"), [("00000000aa", "day"), ("00000003aa", "newyear"), ("0000000baa", "month")]
)
def test_a_commit_chooses_its_date(commit: str, name: str) -> None:
    """The same commit always runs under the same date."""
    done = run_dates("--of", commit)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"== {name}: the clocks say ")
