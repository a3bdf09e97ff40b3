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

        def copied() -> bool:
            """The app may be copying by itself."""
            asked = admin.post("/admin/backups/copy", params={"wait": "true"}, timeout=120)
            return asked.status_code == 200

        eventually(copied, "a copying")
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
        failed = admin.post("/admin/backups/run", params={"wait": "true"})
    assert "store_no_bucket" in failed.text
    assert "last_run_failed" in codes(other)

    client.create_bucket(Bucket=bucket)
    run(other, "run")
    assert "last_run_failed" not in codes(leader) | codes(other)

    leader.kill()
    hosts.wait_until_it_leads(other)
    assert status(other)["last_drill"] == here["last_drill"]
    assert not {"drill_overdue", "copy_behind", "kit_not_kept"} & codes(other)


def test_what_one_host_removes_or_restores_the_other_understands(
    start_hosts: StartHosts, address: DatabaseAddress
) -> None:
    """A set that retention drops is missed by nobody; an older restore is not undone."""
    keep = {f"BACKUP_KEEP_{name}": "0" for name in ("CHANGES_HOURS", "ALL_DAYS", "WEEKLY")}
    keep |= {"BACKUP_KEEP_MONTHLY": "0", "BACKUP_KEEP_YEARLY": "0", "BACKUP_KEEP_DAILY": "1"}
    with start_hosts(address, **keep) as hosts:
        leader = hosts.leader()
        other = hosts.other(leader)
        first = run(leader, "run")["set_id"]
        looks_at_the_store(other)
        assert first in ids(other)
        for _ in range(2):
            newest = run(leader, "run")["set_id"]
        assert first not in ids(leader), "retention has dropped it"
        looks_at_the_store(other)
        assert first not in ids(other)
        assert "points_missing" not in codes(other)

        run(other, f"sets/{newest}/restore", confirm=newest)
        later = run(other, "run")["set_id"]
        run(leader, f"sets/{later}/restore", confirm=later)
        with other.client() as admin:
            refused = admin.post("/admin/backups/undo")
        assert refused.status_code == 404, refused.text
        assert "another host of this installation has restored" in refused.text
        run(leader, "undo")


def test_a_plan_compares_with_what_is_live_now(hosts: Hosts) -> None:
    """On a host whose copy of it is older than what the other has written since."""
    leader = hosts.leader()
    other = hosts.other(leader)
    made = run(other, "run")["set_id"]
    with hosts.bot.browser() as browser:
        hosts.bot.connect_shop(browser)
        hosts.settle()
    rows = hosts.rows("SELECT key FROM tokens")
    with other.client() as admin:
        plan: dict[str, Any] = admin.get(f"/admin/backups/sets/{made}/restore").json()
    found = next(one for one in plan["items"] if one["source"] == "tokens")
    assert found["live_rows"]["tokens"] == len(rows) > 0, found


def looks_at_the_store(app: AppProcess) -> None:
    """As a plan does."""
    with app.client() as admin:
        assert admin.get("/admin/backups/sets/latest/restore").status_code == 200


def ids(app: AppProcess) -> set[str]:
    """The sets that a host knows."""
    with app.client() as admin:
        listed: dict[str, Any] = admin.get("/admin/backups/sets").json()
    return {one["id"] for one in listed["sets"]}
