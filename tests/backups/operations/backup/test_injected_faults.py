"""Tests of `backups.service`: what a run does when the store, or the way to it, misbehaves.

The store is a real S3 server behind a real proxy that spoils some requests.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from backups.format import naming
from backups.model import Run
from shared.store.spaces import SpacesStore
from tests.backups.conftest import LogLines, SharedBucket
from tests.support.bench import MANIFEST, PREFIX, SESSIONS, TOKENS, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.fault_proxy import (
    Fault,
    FaultProxy,
    Method,
    cut,
    drop,
    flip_byte,
    hang,
    hangs,
    last_before,
    lose_answer,
    pretend,
    refuse,
    truncate,
)
from tests.support.s3_server import S3Server
from tests.support.store_wrappers import WatchedStore


@pytest.fixture(scope="module")
def _shared_proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


def _behind(proxy: FaultProxy, bucket: SharedBucket, patience: float) -> SpacesStore:
    settings = proxy.settings(bucket.settings)
    return SpacesStore(settings, connect_timeout=30, read_timeout=patience, attempts=2)


@pytest.fixture(scope="module")
def _shared_store(_shared_proxy: FaultProxy, _shared_bucket: SharedBucket) -> SpacesStore:
    """A store behind the proxy; on a busy machine, an honest server is slow, too."""
    return _behind(_shared_proxy, _shared_bucket, 30)


@pytest.fixture(scope="module")
def impatient_store(_shared_proxy: FaultProxy, _shared_bucket: SharedBucket) -> SpacesStore:
    """The same with little patience, for what hangs."""
    return _behind(_shared_proxy, _shared_bucket, 0.4)


@pytest.fixture
def proxy(_shared_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """The proxy, which behaves until the test tells it otherwise."""
    _shared_proxy.forget_requests()
    yield _shared_proxy
    _shared_proxy.lift()


@pytest.fixture
def bench(
    tmp_path: Path,
    empty_bucket: SharedBucket,
    proxy: FaultProxy,
    _shared_store: SpacesStore,
    clock: FixedClock,
) -> Iterator[Bench]:
    """A service whose store is the bucket behind the proxy."""
    with open_bench(tmp_path, WatchedStore(_shared_store), clock=clock) as bench:
        yield bench


@contextmanager
def meets(bench: Bench, fault: Fault, impatient: SpacesStore) -> Iterator[None]:
    """Meanwhile the service waits no longer than it has to, if the fault is that nothing comes."""
    patient = bench.watched.inner
    if hangs(fault):
        bench.watched.inner = impatient
    yield
    bench.watched.inner = patient


@dataclass(frozen=True)
class Case:
    """A fault, the requests that meet it, and the name of the error that the run must have."""

    fault: Fault
    code: str
    method: Method | None = None
    key: str = ""
    skip: int = 0


def refused(run: Run, code: str, bench: Bench) -> None:
    """The run failed by that name, says so everywhere, and published nothing."""
    assert (run.status, run.set_id) == ("failed", None)
    assert run.error is not None
    assert run.error.code == code, run.error
    assert run.error.hint
    assert bench.service.run_log.get(run.id) == run
    assert bench.staged() == []
    assert bench.service.directory.run_lease.is_free()
    assert list(bench.service.catalogue.sets()) == []
    assert [one.code for one in bench.service.status().health.problems] == [
        "last_run_failed",
        "no_restore_point",
    ]


# Faults of one kind of request: everything else works, so that nothing is left behind.
SINGLE = {
    "500 at a put": Case(refuse(500, "InternalError"), "store_failing", "PUT", SESSIONS),
    "503 at a put": Case(refuse(503, "SlowDown"), "store_failing", "PUT", TOKENS),
    "500 at a get": Case(refuse(500, "InternalError"), "store_failing", "GET", TOKENS),
    "503 at a get": Case(refuse(503, "SlowDown"), "store_failing", "GET", SESSIONS),
    "502 at a listing": Case(refuse(502, "BadGateway"), "store_failing", "LIST"),
    "put not stored": Case(pretend(), "proof_failed", "PUT", SESSIONS),
    "bit flipped": Case(flip_byte(5000), "proof_failed", "GET", TOKENS),
    "bit flipped in the header": Case(flip_byte(20), "proof_failed", "GET", SESSIONS),
    "body short": Case(truncate(4096), "proof_failed", "GET", TOKENS),
    "body empty": Case(truncate(0), "proof_failed", "GET", TOKENS),
    "body cut": Case(cut(4096), "store_unreachable", "GET", TOKENS),
    "reset in the body": Case(cut(4096, reset=True), "store_unreachable", "GET", SESSIONS),
    "get hangs": Case(hang(), "store_unreachable", "GET", TOKENS),
    "put hangs": Case(hang(), "store_unreachable", "PUT", SESSIONS),
    "listing hangs": Case(hang(), "store_unreachable", "LIST"),
    "put dropped": Case(drop(), "store_unreachable", "PUT", TOKENS),
    "key without the right to read": Case(
        refuse(403, "AccessDenied"), "store_access_denied", "GET", TOKENS
    ),
    "overwriting": Case(pretend(), "store_overwrites", "PUT", "instances/", skip=1),
    "nothing stored at all": Case(pretend(), "store_error", "PUT"),
}


@pytest.mark.parametrize("case", SINGLE.values(), ids=SINGLE)
def test_a_store_that_misbehaves_fails_the_run_by_name(
    bench: Bench, proxy: FaultProxy, impatient_store: SpacesStore, case: Case
) -> None:
    """Each fault has its code, nothing is published or left, and the next run succeeds."""
    proxy.on(case.fault, method=case.method, key=case.key, skip=case.skip)

    with meets(bench, case.fault, impatient_store):
        run = bench.run()

    refused(run, case.code, bench)
    proxy.lift()
    assert bench.all_keys() == []
    assert bench.made().protects
    assert bench.service.status().health.healthy


# Faults of the account or of the way there: from some request on, nothing works any more.
TOTAL = {
    "500 for ever": Case(refuse(500, "InternalError"), "store_failing"),
    "unreachable": Case(drop(), "store_unreachable"),
    "clock skew": Case(refuse(403, "RequestTimeTooSkewed"), "store_clock_skew"),
    "wrong secret": Case(refuse(403, "SignatureDoesNotMatch"), "store_wrong_secret"),
    "unknown key": Case(refuse(403, "InvalidAccessKeyId"), "store_unknown_key"),
    "no such bucket": Case(refuse(404, "NoSuchBucket"), "store_no_bucket"),
}


@pytest.mark.parametrize("late", [False, True], ids=["from the start", "after a put"])
@pytest.mark.parametrize("case", TOTAL.values(), ids=TOTAL)
def test_a_store_that_stops_working_fails_the_run_by_name(
    bench: Bench, proxy: FaultProxy, log_lines: LogLines, case: Case, late: bool
) -> None:
    """Whether at once or in the middle, the reason is named, and the next run succeeds."""
    if late:
        proxy.on(last_before(case.fault), method="PUT", key=TOKENS, times=1)
    else:
        proxy.on(case.fault)

    run = bench.run()

    refused(run, case.code, bench)
    proxy.lift()
    assert bench.manifests() == []
    if late:
        # What was put could not be taken back, which is told, and the next set goes elsewhere.
        assert TOKENS in bench.data_keys()
        assert "could not be deleted" in log_lines.text(logging.WARNING)
    made = bench.made()
    assert made.protects
    assert all(("T010000Z" in stored.key) == late for stored in made.objects)


def test_a_key_that_expires_in_the_middle_is_named(bench: Bench, proxy: FaultProxy) -> None:
    """A key that was valid for the first object and not for the second is not "unreachable"."""
    proxy.on(refuse(400, "ExpiredToken"), method="PUT", key=SESSIONS)

    run = bench.run()

    refused(run, "store_unknown_key", bench)
    assert run.error is not None
    assert "expired" in run.error.message
    assert "SPACES_API_KEY" in run.error.hint
    proxy.lift()
    assert bench.made().protects


@pytest.mark.parametrize("method", ["PUT", "GET", "LIST"])
@pytest.mark.parametrize(
    "fault",
    [refuse(503, "SlowDown"), refuse(500, "InternalError"), drop()],
    ids=["503", "500", "drop"],
)
def test_a_passing_fault_is_survived(
    bench: Bench, proxy: FaultProxy, fault: Fault, method: Method
) -> None:
    """One bad answer of any kind is tried again, and the run succeeds."""
    proxy.on(fault, method=method, times=1)

    assert bench.run().status == "succeeded"

    proxy.wait_until_met(1)
    assert sorted(bench.all_keys()) == sorted([TOKENS, SESSIONS, MANIFEST])


@pytest.mark.parametrize("key", ["instances/", TOKENS, SESSIONS, MANIFEST])
def test_a_lost_answer_to_a_put_is_a_success(bench: Bench, proxy: FaultProxy, key: str) -> None:
    """A put that was done, whose answer was lost, meets its own object and goes on."""
    proxy.on(lose_answer(), method="PUT", key=key, times=1)

    run = bench.run()

    assert (run.status, run.error) == ("succeeded", None)
    assert len(proxy.requests("PUT", key)) >= 2
    assert sorted(bench.all_keys()) == sorted([TOKENS, SESSIONS, MANIFEST])
    assert bench.verify().status == "succeeded"


def test_a_manifest_whose_answers_are_all_lost_is_found_later(
    bench: Bench, proxy: FaultProxy
) -> None:
    """The run cannot know and fails; its objects stay, so the set that is there is whole."""
    proxy.on(lose_answer(), method="PUT", key=MANIFEST)

    run = bench.run()

    refused(run, "store_unreachable", bench)
    proxy.lift()
    bench.service.own_sets.refresh()
    (found,) = bench.service.catalogue.sets()
    assert found.protects
    assert bench.verify(found.id).status == "succeeded"


@pytest.mark.parametrize(
    ("fault", "method"),
    [(pretend(), "PUT"), (flip_byte(30), "GET"), (truncate(30), "GET")],
    ids=["not stored", "bit flipped", "cut short"],
)
def test_a_manifest_that_does_not_read_back_is_no_success(
    bench: Bench, proxy: FaultProxy, fault: Fault, method: Method
) -> None:
    """What makes a set exist is proven like its objects."""
    proxy.on(fault, method=method, key=MANIFEST)

    refused(bench.run(), "proof_failed", bench)


@pytest.mark.parametrize(
    ("fault", "code", "protects"),
    [
        (flip_byte(5000), "proof_failed", False),
        (truncate(100), "proof_failed", False),
        (refuse(404, "NoSuchKey"), "proof_failed", False),
        (refuse(500, "InternalError"), "store_failing", True),
        (cut(100, reset=True), "store_unreachable", True),
        (cut(100), "store_unreachable", True),
        (hang(), "store_unreachable", True),
        (refuse(403, "AccessDenied"), "store_access_denied", True),
    ],
    ids=["flipped", "short", "gone", "500", "reset", "cut", "hangs", "denied"],
)
def test_a_verification_tells_bad_bytes_from_no_bytes(
    bench: Bench,
    proxy: FaultProxy,
    impatient_store: SpacesStore,
    fault: Fault,
    code: str,
    protects: bool,
) -> None:
    """Only a definite verdict on the bytes ends the protection; a bad line does not."""
    made = bench.made()
    proxy.on(fault, method="GET", key=SESSIONS)

    with meets(bench, fault, impatient_store):
        run = bench.verify(made.id)

    assert run.status == "failed"
    assert run.error is not None
    assert run.error.code == code
    proxy.lift()
    assert bench.service.catalogue.get(made.id).protects is protects
    verdicts = [key for key in bench.all_keys() if "/proof-" in key]
    assert len(verdicts) == (0 if protects else 1)


def test_a_refresh_asks_only_for_what_is_new(
    bench: Bench, proxy: FaultProxy, clock: FixedClock, tmp_path: Path
) -> None:
    """Seen from the network: one listing, and one get for each manifest not known yet."""
    for _ in range(3):
        bench.made()
        clock.advance(hours=1)
    with open_bench(
        tmp_path, bench.store, clock=clock, directory="new-host", sources=bench.sources
    ) as other:
        counts = []
        for _ in range(2):
            proxy.forget_requests()
            assert other.service.own_sets.refresh() is None
            counts.append(dict(proxy.counts()))
        bench.made()
        proxy.forget_requests()
        other.service.own_sets.refresh()
        counts.append(dict(proxy.counts()))

    assert counts == [{"LIST": 1, "GET": 3}, {"LIST": 1}, {"LIST": 1, "GET": 1}]


def test_no_listing_makes_the_catalogue_forget(bench: Bench, proxy: FaultProxy) -> None:
    """A store that cannot be asked leaves what is known, and says why it is not fresh."""
    made = bench.made()
    proxy.on(refuse(503, "SlowDown"), method="LIST")

    error = bench.service.own_sets.refresh()

    assert error is not None
    assert error.code == "store_failing"
    assert bench.service.catalogue.newest_protecting() == made


def test_no_credential_is_told_anywhere(
    bench: Bench, proxy: FaultProxy, empty_bucket: SharedBucket, log_lines: LogLines
) -> None:
    """Whatever the store refuses, neither key nor secret nor a signature is in log or records."""
    settings = empty_bucket.settings
    for fault in (refuse(403, "SignatureDoesNotMatch"), refuse(500, "InternalError"), drop()):
        proxy.on(fault)
        run = bench.run()
        proxy.lift()
        assert run.status == "failed"
        seen = f"{run!r}{log_lines.text(logging.DEBUG)}{bench.service.status()!r}"
        for secret in (settings.api_key, settings.api_secret, "Signature=", "AWS4-HMAC"):
            assert secret not in seen
    signed = proxy.requests("PUT")[0]
    assert any(settings.api_key in value for _, value in signed.headers)  # where it belongs
    for file in bench.directory.path.glob("runs.db*"):
        for secret in (settings.api_key, settings.api_secret):
            assert secret.encode() not in file.read_bytes()


def test_wrong_credentials_of_a_real_server_are_told_apart(
    tmp_path: Path, s3_server: S3Server, empty_bucket: SharedBucket, clock: FixedClock
) -> None:
    """The server itself, not the proxy, refuses: key, secret, bucket and rights by name."""
    name, _, good = empty_bucket
    wrong = {
        "store_unknown_key": s3_server.settings(name, api_key="no-such-key"),
        "store_wrong_secret": s3_server.settings(name, api_secret="wrong" * 8),
        "store_no_bucket": s3_server.settings("no-such-bucket"),
        "store_access_denied": s3_server.readonly_settings(name),
    }
    for number, (code, settings) in enumerate(wrong.items()):
        store = SpacesStore(settings, attempts=1)
        with open_bench(tmp_path / str(number), store, clock=clock) as bench:
            run = bench.run()

            assert run.error is not None
            assert run.error.code == code
            for secret in (good.api_secret, settings.api_secret):
                assert secret not in repr(run)


def test_a_dead_store_does_not_stop_the_status(
    bench: Bench, proxy: FaultProxy, clock: FixedClock
) -> None:
    """Unreachable for a day: the records still say what there is, and that it is overdue."""
    made = bench.made()
    clock.advance(hours=26.5)
    proxy.on(drop())
    assert bench.run("scheduled").status == "failed"
    before = len(proxy.requests())

    status = bench.service.status()

    assert len(proxy.requests()) == before
    assert status.newest_restore_point == made
    assert [one.code for one in status.health.problems] == ["last_run_failed", "overdue"]


def test_an_object_of_another_client_is_never_overwritten(
    bench: Bench, empty_bucket: SharedBucket
) -> None:
    """What a plain S3 client left under today's key is there, byte for byte, after the run."""
    name, client, _ = empty_bucket
    client.put_object(Bucket=name, Key=SESSIONS, Body=io.BytesIO(b"from cron"))

    made = bench.made()

    assert client.get_object(Bucket=name, Key=SESSIONS)["Body"].read() == b"from cron"
    assert all(naming.parse_data_key(PREFIX, stored.key) for stored in made.objects)
    assert TOKENS not in bench.all_keys()
