"""A second place that misbehaves is named, hinders nothing, and has all when it is well again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from backups.wiring import open_service
from shared.clock import format_utc
from shared.errors import AppError
from tests.backups.second.host import PREFIX, Host
from tests.support.app_process import AppProcess
from tests.support.fault_proxy import Fault, FaultProxy, flip_byte, hang, pretend, refuse
from tests.support.generations import generation_of, live_path, write_generation
from tests.support.installation import bot_secrets, installation_in, settings_of
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

DOCUMENT = "users/u-1/facebook/7001/conversations/9.json"


@contextmanager
def through_a_proxy(
    folder: Path, server: S3Server, bucket: SecondBucket, **more: str
) -> Iterator[tuple[Host, FaultProxy]]:
    """A host that reaches its second place through a proxy."""
    with FaultProxy(server.endpoint) as proxy:
        settings = bucket.environment(COPY_LOCK_DAYS="1", COPY_ENDPOINT=proxy.endpoint, **more)
        installation = installation_in(folder, **settings)
        with open_service(settings_of(installation)) as service:
            yield Host(installation, service, lambda: service), proxy


@pytest.mark.parametrize(
    ("fault", "method"),
    [
        (lambda: refuse(507, "InsufficientStorage"), "PUT"),
        (lambda: refuse(403, "QuotaExceeded"), "PUT"),
        (lambda: refuse(501, "NotImplemented"), "PUT"),
        (lambda: refuse(400, "AuthorizationHeaderMalformed"), "PUT"),
        (pretend, "PUT"),
        (lambda: flip_byte(0), "GET"),
        (lambda: refuse(503, "SlowDown"), "LIST"),
    ],
)
def test_what_it_does_not_take_is_named_and_goes_later(
    tmp_path: Path,
    s3_server: S3Server,
    bucket: SecondBucket,
    fault: Callable[[], Fault],
    method: Any,
) -> None:
    """Full, over its quota, without a condition, elsewhere, lying, flipping bits, busy."""
    with through_a_proxy(tmp_path, s3_server, bucket) as (host, proxy):
        store: Any = host.service.store
        store.replace(DOCUMENT, b"[1]")
        made = host.made("one")  # the first place has it, whatever the second does
        proxy.on(fault(), method=method)
        with suppress(AppError):
            host.second.copy()
        host.second.copy_documents(None)
        state, documents = host.second.state(), host.second.documents_state()
        assert state is not None
        assert documents is not None
        assert state.error is not None or state.waiting or state.refused
        assert documents.error is not None
        warnings = {one.code for one in host.service.status().health.warnings}
        assert {"copy_failed", "copy_refused"} & warnings
        assert host.service.catalogue.get(made.id).proof == "full"

        proxy.lift()
        assert host.second.copy()[0].waiting == 0
        host.second.copy_documents(None)
        assert host.second.compare().missing == ()
        assert bucket.bytes_of(DOCUMENT) == b"[1]"


def test_one_that_hangs_hinders_neither_a_run_nor_the_end(
    tmp_path: Path, s3_server: S3Server, bucket: SecondBucket
) -> None:
    """The app makes its sets meanwhile, and stops when it is told to."""
    with FaultProxy(s3_server.endpoint) as proxy:
        settings = bucket.environment(COPY_LOCK_DAYS="1", COPY_ENDPOINT=proxy.endpoint)
        installation = installation_in(tmp_path, **bot_secrets(), **settings).make_databases()
        proxy.on(hang(), key=PREFIX)
        with AppProcess.start(installation) as app, app.client() as client:
            proxy.wait_until_met()
            for _ in range(2):
                run = client.post("/admin/backups/run", params={"wait": "true"}).json()
                assert run["status"] == "succeeded"
        # It has ended: the block waits for that.


def test_a_restore_of_an_earlier_time_ends_with_the_app(
    tmp_path: Path, s3_server: S3Server, bucket: SecondBucket
) -> None:
    """Its requests hang in the second place: the app stops, with its data as it was."""
    with FaultProxy(s3_server.endpoint) as proxy:
        settings = bucket.environment(COPY_LOCK_DAYS="1", COPY_ENDPOINT=proxy.endpoint)
        settings |= {"BACKUP_LOCAL_COPIES": "0"}
        installation = installation_in(tmp_path, **bot_secrets(), **settings)
        write_generation(tmp_path, "stored")
        made = installation.json("run")["set"]["id"]
        assert installation.cli("copy").returncode == 0
        write_generation(tmp_path, "live")
        with AppProcess.start(installation) as app, app.client() as client:
            proxy.on(hang(), method="GET", key=f"{PREFIX}tokens")
            later = format_utc(datetime.now(UTC) + timedelta(hours=1))
            body = {"confirm": made, "place": "second", "stored_before": later}
            begun = client.post(f"/admin/backups/sets/{made}/restore", json=body)
            assert begun.status_code == httpx2.codes.ACCEPTED, begun.text
            proxy.wait_until_met()
        assert generation_of(live_path(tmp_path, "tokens")) == "live"


def test_a_kill_in_the_middle_of_a_copying_is_caught_up_with(
    tmp_path: Path, s3_server: S3Server, bucket: SecondBucket
) -> None:
    """Each time at another object; two processes of the app copy nothing twice at a time."""
    with FaultProxy(s3_server.endpoint) as proxy:
        settings = bucket.environment(COPY_LOCK_DAYS="1", COPY_ENDPOINT=proxy.endpoint)
        settings |= {"BACKUP_CHANGE_DELAY": "0"}  # nothing new comes after the copying
        installation = installation_in(tmp_path, **bot_secrets(), **settings).make_databases()
        made = installation.json("run")["set"]
        for key in [made["objects"][0]["key"], made["objects"][1]["key"], "/manifest.json"]:
            proxy.on(hang(), method="PUT", key=key)
            app = AppProcess.start(installation)
            proxy.wait_until_met()
            app.kill()
            proxy.lift()
            proxy.forget_requests()
        with AppProcess.start(installation, workers=2) as app, app.client() as client:

            def is_complete() -> bool:
                state: dict[str, Any] = client.get("/admin/backups/copy").json()
                return bool(state.get("complete_at"))

            eventually(is_complete, "all is copied")
    compared = installation_in(tmp_path, **bot_secrets(), **bucket.environment())
    done = compared.cli("copy", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_copies_are_compared_beside_a_running_app(tmp_path: Path, bucket: SecondBucket) -> None:
    """What the app says of itself there is no copy of anything."""
    installation = installation_in(
        tmp_path,
        **bot_secrets(),
        **bucket.environment(COPY_LOCK_DAYS="1"),
        BACKUP_CHANGE_DELAY="0",  # no chain begins meanwhile
    ).make_databases()
    with AppProcess.start(installation) as app, app.client() as client:
        run = client.post("/admin/backups/run", params={"wait": "true"})
        assert run.status_code == httpx2.codes.OK
        wait = {"wait": "true"}
        eventually(
            lambda: client.post("/admin/backups/copy", params=wait).status_code == httpx2.codes.OK,
            "a copying",
        )
        done = installation.cli("copy", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
