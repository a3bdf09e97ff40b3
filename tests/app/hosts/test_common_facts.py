"""What one host did, the other's page knows: it says neither more nor less than is true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared.databases.engines.address import DatabaseAddress
from tests.support.app_process import AppProcess
from tests.support.hosts import Hosts, StartHosts, run, status
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def hosts(
    start_hosts: StartHosts, address: DatabaseAddress, s3_server: S3Server
) -> Iterator[Hosts]:
    """Both serve, and copy to a second place."""
    second = SecondBucket.new(s3_server)
    endpoint = second.settings.endpoint.replace("127.0.0.1", "localhost")
    given = second.environment(COPY_LOCK_DAYS="1", COPY_ENDPOINT=endpoint)
    with start_hosts(address, **given) as hosts:
        yield hosts


def codes(app: AppProcess) -> set[str]:
    """What a host says that something is wrong with."""
    said = status(app)
    return {one["code"] for one in (*said["problems"], *said["warnings"])}


def all_is_copied(app: AppProcess) -> bool:
    """Whether a host knows of a second place that has all."""
    second: dict[str, Any] = status(app)["second"]
    return second.get("complete_at") is not None and not second["waiting"]


def test_both_hosts_know_what_either_did(hosts: Hosts, s3_server: S3Server, bucket: str) -> None:
    """The copies, the drill, the kit, and a backup that failed; and who leads next knows it."""
    leader = hosts.leader()
    other = hosts.other(leader)
    run(leader, "run")
    drilled = run(leader, "drill")
    assert drilled["status"] == "succeeded"
    with leader.client() as admin:
        assert admin.post("/admin/backups/copy", params={"wait": "true"}).status_code == 200
    assert leader.installation.cli("kit", "--kept").returncode == 0

    eventually(lambda: all_is_copied(other), "the other host to know of the copies")
    here, there = status(leader), status(other)
    assert there["last_drill"] == here["last_drill"] is not None
    assert there["kit_kept_at"] == here["kit_kept_at"] is not None
    eventually(lambda: codes(other) == codes(leader), "both to say the same", seconds=120)
    assert "attempts_unknown" not in codes(other)

    client = s3_server.client()
    stored = [one["Key"] for one in client.list_objects(Bucket=bucket)["Contents"]]
    for key in stored:
        client.delete_object(Bucket=bucket, Key=key)
    client.delete_bucket(Bucket=bucket)
    with leader.client() as admin:
        failed = admin.post("/admin/backups/run", params={"wait": "true"}).json()
    assert failed["status"] == "failed", failed
    assert "last_run_failed" in codes(other)

    client.create_bucket(Bucket=bucket)
    run(other, "run")
    assert "last_run_failed" not in codes(leader) | codes(other)

    leader.kill()
    hosts.wait_until_it_leads(other)
    assert status(other)["last_drill"] == here["last_drill"]
    assert not {"drill_overdue", "copy_behind", "kit_not_kept"} & codes(other)
