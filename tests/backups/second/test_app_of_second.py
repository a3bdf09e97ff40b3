"""The app copies by itself, and begins from the second place where the first is gone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shared.clock import format_utc, parse_utc
from tests.backups.second.host import PREFIX
from tests.support.app_process import AppProcess
from tests.support.followed import Followed
from tests.support.generations import SOURCES, generation_of, live_path, write_generation
from tests.support.installation import bot_secrets, installation_in
from tests.support.second import SecondBucket
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


def test_sets_are_copied_at_once_and_changes_each_copy_every(
    tmp_path: Path, bucket: SecondBucket
) -> None:
    """A set is there as soon as it is proven; below an hour, the increments themselves go."""
    settings = bucket.environment(COPY_EVERY="60", COPY_LOCK_DAYS="1")
    followed = Followed.in_folder(tmp_path, **bot_secrets(), **settings)
    with followed.serving() as app, app.client() as client:
        made = client.post("/admin/backups/run", params={"wait": "true"}).json()["set_id"]
        manifest = f"{PREFIX}sets/{made}/manifest.json"
        eventually(lambda: manifest in bucket.listed(), "the set is copied", seconds=60)
        followed.put("SHOPIFY_ACCESS_TOKEN_rotated", "new")
        followed.wait_until_stored("SHOPIFY_ACCESS_TOKEN_rotated", "new")
        asked = client.post("/admin/backups/copy")
        assert asked.status_code == 202
        eventually(
            lambda: [key for key in bucket.listed() if key.endswith(".inc")],
            "the increment is copied",
            seconds=60,
        )
        eventually(
            lambda: client.post("/admin/backups/copy", params={"wait": "true"}).status_code == 200,
            "nobody else copies",
            seconds=60,
        )
        state = client.get("/admin/backups/copy").json()
        assert (state["waiting"], state["error"]) == (0, None)
        assert client.get("/admin/backups").json()["protected_by"]["second"]["holds"] is True
        assert "backup_second_waiting 0.0" in client.get("/metrics").text
    followed.installation.stored("").rename(tmp_path / "lost")
    found = followed.installation.cli("list", "--place", "second")
    assert " point" in found.stdout.partition("to 20")[2]


def test_an_empty_host_begins_from_the_second_place(tmp_path: Path, bucket: SecondBucket) -> None:
    """With BACKUP_RESTORE_ON_EMPTY, where the first place has nothing any more."""
    folder = tmp_path / "host"
    folder.mkdir()
    host = installation_in(folder, **bot_secrets(), **bucket.environment())
    write_generation(host.folder, "copied")
    host.json("run")
    assert host.cli("copy").returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    empty = installation_in(
        other, **bot_secrets(), **bucket.environment(BACKUP_RESTORE_ON_EMPTY="true")
    )
    with AppProcess.start(empty):
        assert {generation_of(live_path(other, source)) for source in SOURCES} == {"copied"}


def test_the_routes_read_from_the_second_place(tmp_path: Path, bucket: SecondBucket) -> None:
    """A list, a proof, a drill, a plan and a restore, while the first place is gone."""
    host = installation_in(tmp_path, **bot_secrets(), **bucket.environment())
    write_generation(host.folder, "copied")
    made = host.json("run")["set"]["id"]
    assert host.cli("copy").returncode == 0
    host.stored("").rename(tmp_path / "lost")
    host.stored("").mkdir()
    write_generation(host.folder, "live")
    second, there = {"place": "second"}, {"place": "second", "wait": "true"}
    with AppProcess.start(host) as app, app.client() as client:
        listed = client.get("/admin/backups/sets", params=second).json()["sets"]
        assert made in [one["id"] for one in listed]
        at = f"/admin/backups/sets/{made}"
        assert client.post(f"{at}/verify", params=there).status_code == 200
        assert client.post("/admin/backups/drill", params=there).status_code == 200
        plan = client.get(f"{at}/restore", params=second).json()
        assert plan["set"]["id"] == made
        body = {"confirm": made, "place": "second"}
        done = client.post(f"{at}/restore", params={"wait": "true"}, json=body)
        assert done.status_code == 200, done.text
        assert {generation_of(live_path(tmp_path, source)) for source in SOURCES} == {"copied"}
        assert client.get("/admin/backups/sets", params={"place": "third"}).status_code == 422


def test_a_restore_by_route_takes_only_what_the_place_had_received(
    tmp_path: Path, bucket: SecondBucket
) -> None:
    """The list, the plan and the restore as of a time; a restore that nobody waits for, too."""
    host = installation_in(tmp_path, **bot_secrets(), **bucket.environment())
    write_generation(host.folder, "before")
    before = host.json("run")["set"]["id"]
    assert host.cli("copy").returncode == 0
    received = max(one["LastModified"] for one in bucket.versions())
    theft = format_utc(received + timedelta(seconds=1))  # the store's times are whole seconds
    eventually(lambda: _put_after(bucket, theft), "the store's clock is past the theft")
    write_generation(host.folder, "after")
    after = host.json("run")["set"]["id"]
    assert host.cli("copy").returncode == 0
    then = {"place": "second", "stored_before": theft}
    with AppProcess.start(host) as app, app.client() as client:
        listed = client.get("/admin/backups/sets", params=then).json()["sets"]
        assert [one["id"] for one in listed] == [before]
        gone = client.get(f"/admin/backups/sets/{after}/restore", params=then)
        assert (gone.status_code, gone.json()["code"]) == (404, "set_not_found")
        body = {"confirm": after, **then}
        assert client.post(f"/admin/backups/sets/{after}/restore", json=body).status_code == 404
        plan = client.get("/admin/backups/sets/latest/restore", params=then).json()
        assert plan["set"]["id"] == before
        body = {"confirm": before, **then}
        begun = client.post("/admin/backups/sets/latest/restore", json=body)
        assert begun.status_code == 202, begun.text
        eventually(
            lambda: client.get(begun.headers["Location"]).json()["status"] == "succeeded",
            "the restore has ended",
            seconds=60,
        )
        assert {generation_of(live_path(tmp_path, source)) for source in SOURCES} == {"before"}
        first = client.get("/admin/backups/sets", params={"stored_before": theft})
        assert (first.status_code, first.json()["code"]) == (422, "bad_request")


def _put_after(bucket: SecondBucket, time: str) -> bool:
    """Whether an object that is put now is received after this time."""
    bucket.plant("clock", b"")
    return any(one["LastModified"] > parse_utc(time) for one in bucket.versions())


def test_without_a_second_place_its_routes_say_so(tmp_path: Path) -> None:
    """404, with the settings that are missing."""
    host = installation_in(tmp_path, **bot_secrets()).make_databases()
    with AppProcess.start(host) as app, app.client() as client:
        for method, path in (("GET", "copy"), ("POST", "copy"), ("GET", "sets?place=second")):
            answer = client.request(method, f"/admin/backups/{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "no_second_place")
            assert "COPY_" in answer.json()["hint"]
