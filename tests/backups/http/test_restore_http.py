"""Restore, undo, drill and doctor over HTTP, in a real app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shared.clock import SystemClock
from tests.support.app_process import AppProcess
from tests.support.bench import open_bench
from tests.support.generations import (
    SOURCES,
    LiveStateName,
    bring_into,
    generation_of,
    generations_in,
    live_path,
)
from tests.support.installation import installation_in
from tests.support.storage_process import StorageProcess
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

PATH = "/admin/backups"


@contextmanager
def started_in(folder: Path) -> Iterator[AppProcess]:
    """A running app with a set of `genset` and `genlive` in its databases."""
    with open_bench(folder, settings={}, clock=SystemClock()) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
    with AppProcess.start(installation_in(folder)) as running:
        yield running


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppProcess]:
    """An app of its own."""
    with started_in(tmp_path) as running:
        yield running


@pytest.fixture
def client(app: AppProcess) -> Iterator[httpx2.Client]:
    """A client with the admin token."""
    with app.client() as client:
        yield client


@pytest.fixture(scope="module")
def shared_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app for all tests of what changes nothing."""
    with started_in(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture
def shared_client(shared_app: AppProcess) -> Iterator[httpx2.Client]:
    """A client with its admin token."""
    with shared_app.client() as client:
        yield client


def the_set(client: httpx2.Client) -> str:
    """The id of the set."""
    found = client.get(f"{PATH}/sets").json()["sets"]
    return str([one for one in found if one["kind"] == "set"][-1]["id"])


def generations(app: AppProcess) -> set[str]:
    """What the live databases hold."""
    return {generation_of(live_path(app.installation.folder, source)) for source in SOURCES}


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, which must have this status and code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    assert document["hint"]
    return document


def test_the_plan_changes_nothing(shared_app: AppProcess, shared_client: httpx2.Client) -> None:
    """`GET` shows what a restore would do, and what to send to confirm it."""
    set_id = the_set(shared_client)
    for target in (set_id, "latest"):
        plan = shared_client.get(f"{PATH}/sets/{target}/restore").json()
        assert plan["confirm"] == plan["set"]["id"]
        # A change that is followed meanwhile is a point of its chain, and then the latest.
        assert plan["set"]["id"].partition(".")[0] == set_id
        assert [item["source"] for item in plan["items"]] == ["tokens", "sessions"]
    only = shared_client.get(f"{PATH}/sets/{set_id}/restore?only=tokens").json()
    assert [item["source"] for item in only["items"]] == ["tokens"]
    assert generations(shared_app) == {"genlive"}


def test_the_right_confirmation_restores(app: AppProcess, client: httpx2.Client) -> None:
    """With the set's id as confirmation the data are back when the answer comes, app running."""
    set_id = the_set(client)
    with StorageProcess(app.installation) as storages:
        assert storages.look() is None
        answer = client.post(f"{PATH}/sets/{set_id}/restore?wait=true", json={"confirm": set_id})
        assert answer.status_code == 200, answer.text
        run = answer.json()
        assert (run["operation"], run["status"], run["set_id"]) == ("restore", "succeeded", set_id)
        assert answer.headers["location"] == f"{PATH}/runs/{run['id']}"
        assert generations(app) == {"genset"}
        assert storages.put("after-1") is None
    assert generations_in(app.installation.tokens_path) == {"genset", "after"}


def test_without_wait_the_run_is_told_and_can_be_followed(
    app: AppProcess, client: httpx2.Client
) -> None:
    """202 with the run, and `Location` answers with how it ends."""
    set_id = the_set(client)
    answer = client.post(f"{PATH}/sets/{set_id}/restore", json={"confirm": set_id})
    assert answer.status_code == 202
    location = answer.headers["location"]
    eventually(lambda: client.get(location).json()["status"] == "succeeded", "it is restored")
    assert generations(app) == {"genset"}


@pytest.mark.parametrize("confirm", ["", "latest", "yes", "20200101T000000Z", "../x"])
def test_a_wrong_confirmation_is_refused(
    shared_app: AppProcess, shared_client: httpx2.Client, confirm: str
) -> None:
    """Any other text than the set's id is 409, names the id, and changes nothing."""
    set_id = the_set(shared_client)
    answer = shared_client.post(f"{PATH}/sets/{set_id}/restore", json={"confirm": confirm})
    assert set_id in problem(answer, 409, "confirmation_missing")["hint"]
    assert generations(shared_app) == {"genlive"}


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"confirm": 1}', b"[]", b"nonsense"])
def test_a_missing_confirmation_is_refused(
    shared_app: AppProcess, shared_client: httpx2.Client, body: bytes | None
) -> None:
    """Without a confirmation it is 422, and changes nothing."""
    answer = shared_client.post(f"{PATH}/sets/{the_set(shared_client)}/restore", content=body)
    problem(answer, 422, "bad_request")
    assert generations(shared_app) == {"genlive"}
    assert [run["operation"] for run in shared_client.get(f"{PATH}/runs").json()["runs"]] == [
        "backup"
    ]


def test_who_has_no_token_restores_nothing(shared_app: AppProcess) -> None:
    """Every route of this kind needs the admin token."""
    with shared_app.client(token=None) as stranger:
        for method, path in (
            ("GET", "sets/latest/restore"),
            ("POST", "sets/latest/restore"),
            ("POST", "undo"),
            ("POST", "drill"),
            ("GET", "doctor"),
            ("POST", "doctor"),
        ):
            assert stranger.request(method, f"{PATH}/{path}").status_code == 401
    assert generations(shared_app) == {"genlive"}


@pytest.mark.parametrize("target", ["20200101T000000Z", "..%2F..%2Fetc", "legacy-2020-01-01"])
def test_an_unknown_set_is_404(
    shared_app: AppProcess, shared_client: httpx2.Client, target: str
) -> None:
    """A set that is not there, or a path in its place, is not found."""
    for answer in (
        shared_client.get(f"{PATH}/sets/{target}/restore"),
        shared_client.post(f"{PATH}/sets/{target}/restore", json={"confirm": target}),
    ):
        assert answer.status_code == 404
    assert generations(shared_app) == {"genlive"}


def test_while_another_run_holds_the_lease(app: AppProcess, client: httpx2.Client) -> None:
    """409 with the code of a run in progress, for restore, undo and drill."""
    set_id = the_set(client)
    done = client.post(f"{PATH}/sets/{set_id}/restore?wait=true", json={"confirm": set_id})
    assert done.status_code == 200
    held = app.installation.backup_dir.run_lease.try_acquire(5)
    assert held is not None
    try:
        restore = client.post(f"{PATH}/sets/{set_id}/restore", json={"confirm": set_id})
        assert "run_id" in problem(restore, 409, "run_in_progress")
        problem(client.post(f"{PATH}/undo"), 409, "run_in_progress")
        problem(client.post(f"{PATH}/drill"), 409, "run_in_progress")
    finally:
        held.release()


def test_undo(app: AppProcess, client: httpx2.Client) -> None:
    """404 when there is nothing to undo, else what was replaced is back."""
    problem(client.post(f"{PATH}/undo?wait=true"), 404, "nothing_to_undo")
    set_id = the_set(client)
    client.post(f"{PATH}/sets/{set_id}/restore?wait=true", json={"confirm": set_id})
    assert generations(app) == {"genset"}
    assert client.post(f"{PATH}/undo?wait=true").status_code == 200
    assert generations(app) == {"genlive"}


@pytest.mark.parametrize("state", ["corrupt body", "corrupt header", "missing", "leftover"])
def test_restores_by_the_app_itself_in_every_state(
    app: AppProcess, client: httpx2.Client, state: LiveStateName
) -> None:
    """The process that has the databases open restores them itself, and goes on."""
    for source in SOURCES:
        bring_into(state, live_path(app.installation.folder, source))
    set_id = the_set(client)
    answer = client.post(f"{PATH}/sets/{set_id}/restore?wait=true", json={"confirm": set_id})
    assert answer.status_code == 200, answer.text
    assert generations(app) == {"genset"}
    made = client.post(f"{PATH}/run?wait=true")
    assert made.status_code == 200, made.text


def test_a_failing_restore_is_a_problem_document(app: AppProcess, client: httpx2.Client) -> None:
    """A damaged object is 500 with its code and the run, and nothing live has changed."""
    set_id = the_set(client)
    with open_bench(app.installation.folder, settings={}, clock=SystemClock()) as bench:
        bench.forget_copies()
        latest = bench.service.catalogue.latest()
        assert latest is not None
        bench.replace_object(latest.objects[0].key, b"something else")
    answer = client.post(f"{PATH}/sets/{set_id}/restore?wait=true", json={"confirm": set_id})
    document = problem(answer, 500, "proof_failed")
    assert document["run"]["status"] == "failed"
    assert generations(app) == {"genlive"}


def test_drill_and_doctor(app: AppProcess, client: httpx2.Client) -> None:
    """A drill answers with its run, and is in status; the doctor answers with its lines."""
    run = client.post(f"{PATH}/drill?wait=true").json()
    assert (run["operation"], run["status"]) == ("drill", "succeeded")
    assert client.get(PATH).json()["last_drill"]["rows"] == 24
    for answer in (client.get(f"{PATH}/doctor"), client.post(f"{PATH}/doctor")):
        document = answer.json()
        assert document["healthy"], document
        assert {line["level"] for line in document["lines"]} == {"ok", "warning"}
    assert "deletes objects" in {line["message"] for line in document["lines"]}
