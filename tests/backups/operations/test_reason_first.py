"""Why there is no restore point: where the store refuses, that is said before anything else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import botocore.auth
import pytest

from backups.errors import NoRestorePoint
from backups.view import documents
from shared.errors import StoreError, StoreUnreachable
from shared.store.directory import DirectoryStore
from shared.store.spaces import SpacesStore
from shared.store.spaces_access import SpacesSettings
from tests.backups.conftest import SharedBucket
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.fault_proxy import FaultProxy, refuse, web_page
from tests.support.installation import bot_secrets, installation_in, spaces
from tests.support.listener import closed_port
from tests.support.s3_server import S3Server
from tests.support.store_wrappers import WatchedStore

Refusing = Callable[[SpacesSettings], SpacesSettings]


def new_host(folder: Path, settings: SpacesSettings) -> AbstractContextManager[Bench]:
    """A host without databases and without records."""
    return open_bench(folder, SpacesStore(settings, attempts=1), settings={})


def gone() -> str:
    return f"http://127.0.0.1:{closed_port()}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda s: replace(s, api_secret="another"), "store_wrong_secret"),
        (lambda s: replace(s, api_key="another"), "store_unknown_key"),
        (lambda s: replace(s, bucket="no-such-bucket"), "store_no_bucket"),
        (lambda s: replace(s, endpoint=gone()), "store_unreachable"),
    ],
    ids=["secret", "key", "bucket", "network"],
)
def test_a_new_host_says_why_it_has_no_restore_point(
    tmp_path: Path, empty_bucket: SharedBucket, wrong: Refusing, code: str
) -> None:
    """Plan and list raise the store's refusal, and not that there is nothing."""
    with new_host(tmp_path, wrong(empty_bucket.settings)) as bench:
        for act in (
            bench.service.restore.plan,
            lambda: bench.service.restore.plan("20260101T000000Z"),
            bench.service.own_sets.look,
        ):
            with pytest.raises(StoreError) as caught:
                act()

            assert caught.value.code == code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (
            refuse(400, "AuthorizationHeaderMalformed", "the region is wrong; expecting ams3"),
            "store_no_bucket",
            "the region is wrong; expecting ams3",
        ),
        (web_page(200), "store_not_s3", "not an S3 server"),
    ],
    ids=["region", "captive portal"],
)
def test_a_wrong_place_is_no_empty_store(
    tmp_path: Path, empty_bucket: SharedBucket, fault: object, code: str, said: str
) -> None:
    """A wrong region and a page in place of a store are named by a plan."""
    with FaultProxy(empty_bucket.settings.endpoint) as proxy:
        proxy.on(fault)  # type: ignore[arg-type]
        with (
            new_host(tmp_path, proxy.settings(empty_bucket.settings)) as bench,
            pytest.raises(StoreError) as caught,
        ):
            bench.service.restore.plan()

    assert caught.value.code == code
    assert said in caught.value.message


@pytest.mark.slow
def test_a_wrong_clock_is_named_by_a_plan(
    tmp_path: Path, empty_bucket: SharedBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose clock is an hour off says so, and not that there is nothing."""
    now: Callable[..., datetime] = botocore.auth.get_current_datetime  # type: ignore[attr-defined]
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *args: now(*args) + timedelta(hours=1)
    )
    with (
        new_host(tmp_path, empty_bucket.settings) as bench,
        pytest.raises(StoreError) as caught,
    ):
        bench.service.restore.plan()

    assert caught.value.code == "store_clock_skew"


@pytest.mark.slow
def test_a_proxy_of_the_environment_is_named_by_a_plan(
    tmp_path: Path, empty_bucket: SharedBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host behind a proxy that does not answer names that proxy."""
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", gone())
    with (
        new_host(tmp_path, empty_bucket.settings) as bench,
        pytest.raises(StoreUnreachable) as caught,
    ):
        bench.service.restore.plan()

    assert "through the proxy 127.0.0.1:" in caught.value.message


@pytest.mark.slow
@pytest.mark.parametrize("command", ["restore", "list"])
def test_a_command_on_a_new_host_ends_with_the_refusal(
    tmp_path: Path, s3_server: S3Server, empty_bucket: SharedBucket, command: str
) -> None:
    """`restore` and `list` exit with 1 and the store's refusal, as text and as JSON."""
    wrong = replace(empty_bucket.settings, api_secret="another")
    installation = installation_in(tmp_path, **bot_secrets(), **spaces(wrong))

    done = installation.cli(command)
    problem = installation.json(command, exit_code=1)

    assert done.returncode == 1
    assert "SPACES_API_SECRET does not match SPACES_API_KEY (SignatureDoesNotMatch" in done.stderr
    assert "restore point" not in done.stdout + done.stderr
    assert problem["code"] == "store_wrong_secret"


def test_an_empty_store_is_told_as_one(bench: Bench) -> None:
    """Where the store answers, and has nothing, there is no restore point."""
    assert bench.service.own_sets.look() is None
    with pytest.raises(NoRestorePoint):
        bench.service.restore.plan()


def test_what_a_host_knows_is_shown_without_the_store(bench: Bench, clock: FixedClock) -> None:
    """List and plan go on from the records, and say since when they are and why."""
    made = bench.made()
    bench.service.own_sets.refresh()
    listed_at = bench.service.catalogue.listed_at()
    clock.advance(hours=3)
    bench.watched.break_at("list", 0)

    error = bench.service.own_sets.look()
    sets, _ = bench.service.list_sets(10)
    document = documents.sets_document(sets, more=False, listed_at=listed_at, error=error)
    plan = bench.service.restore.plan()

    assert error is not None
    assert document["sets"][0]["id"] == made.id
    assert document["error"]["code"] == "store_unreachable"
    assert document["listed_at"] == "2026-11-22T01:00:00Z"
    first = plan.warnings[0]
    assert first.code == "store_not_asked"
    assert "2026-11-22T01:00:00Z" in first.message
    assert "there was no answer" in first.message
    assert plan.backup_set.id == made.id


def test_status_names_the_refusal_until_the_store_answers(bench: Bench) -> None:
    """`no_restore_point` gives the store's refusal, without the network, until it was listed."""
    bench.watched.break_at("list", 0)
    bench.service.own_sets.refresh()
    refused = {one.code: one for one in bench.service.status().health.problems}
    bench.watched.mend()
    bench.service.own_sets.refresh()
    answered = {one.code: one for one in bench.service.status().health.problems}

    assert "there was no answer" in refused["no_restore_point"].message
    assert "there is no complete, proven backup yet" in answered["no_restore_point"].message


def test_after_a_change_of_the_store_the_old_place_is_named(
    tmp_path: Path, bench: Bench, clock: FixedClock
) -> None:
    """A host whose points are in the store of before says where, in plan and status."""
    bench.made()
    other = WatchedStore(DirectoryStore(tmp_path / "another"))
    with open_bench(tmp_path, other, sources=bench.sources, clock=clock) as moved:
        problems = {one.code: one for one in moved.service.status().health.problems}
        with pytest.raises(NoRestorePoint) as caught:
            moved.service.restore.plan()

    assert bench.store.location in caught.value.hint
    assert bench.store.location in problems["no_restore_point"].hint
