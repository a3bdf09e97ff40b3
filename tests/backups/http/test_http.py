"""The HTTP interface, through a real uvicorn: guard, answers, and what the app does on bad days."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.app_process import AppProcess
from tests.support.contract import check_problem, check_run, check_set, check_status
from tests.support.fault_proxy import FaultProxy, hang
from tests.support.installation import (
    ADMIN_TOKEN,
    STATE_TOKEN_SECRET,
    TOKEN_ENCRYPTION_KEY,
    Installation,
    bot_secrets,
    secret_of,
    spaces,
)
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

BASE = "/admin/backups"
PROBLEM = "application/problem+json"
UNKNOWN_SET = "20260101T000000Z"

ADMIN_ROUTES = (
    ("GET", BASE),
    ("GET", f"{BASE}/status"),
    ("GET", f"{BASE}/sets"),
    ("GET", f"{BASE}/sets/{UNKNOWN_SET}"),
    ("GET", f"{BASE}/runs"),
    ("GET", f"{BASE}/runs/nope"),
    ("POST", f"{BASE}/run"),
    ("POST", f"{BASE}/sets/{UNKNOWN_SET}/verify"),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app with the embedded store, after its first backup."""
    folder = tmp_path_factory.mktemp("http")
    installation = Installation(folder, bot_secrets()).make_databases()
    with AppProcess.start(installation) as app:
        with app.client() as client:
            eventually(lambda: status_of(client)["last_success"], "the first backup")
        yield app
    assert "Traceback" not in app.output()


@pytest.fixture
def http(app: AppProcess) -> Iterator[httpx2.Client]:
    """A client of the app that has the admin token."""
    with app.client() as client:
        yield client


def status_of(client: httpx2.Client) -> dict[str, Any]:
    """The status document."""
    answer = client.get(f"{BASE}/status")
    assert answer.status_code == 200, answer.text
    return check_status(answer.json())


def problem_of(answer: httpx2.Response, status: int, code: str, *more: str) -> dict[str, Any]:
    """The problem document of an answer, which must have this status and code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    problem = check_problem(answer.json(), *more)
    assert (problem["status"], problem["code"]) == (status, code)
    return problem


def follow(client: httpx2.Client, started: httpx2.Response) -> dict[str, Any]:
    """Poll the `Location` of a 202 until its run is over; the finished run."""
    assert started.status_code == 202, started.text
    location = started.headers["location"]
    assert location == f"{BASE}/runs/{started.json()['id']}"

    def finished() -> dict[str, Any] | None:
        run = check_run(client.get(location).json())
        return run if run["status"] != "running" else None

    return eventually(finished, f"the end of {location}", seconds=60)


# --- the guard --------------------------------------------------------------------------


def test_health_needs_no_token(app: AppProcess) -> None:
    """`/healthz` answers anybody, and says nothing but that the process serves."""
    with app.client(token=None) as client:
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
def test_admin_routes_need_the_token(app: AppProcess, method: str, path: str) -> None:
    """Without the exact bearer token an admin route is 401, and all refusals read the same.

    After some wrong ones it is 429, whatever the route and the token.
    """
    given: list[bytes | None] = [
        None,
        b"",
        b"Bearer",
        b"Bearer  x",
        b"Bearer wrong",
        f"Bearer {ADMIN_TOKEN[:-1]}".encode(),
        f"Bearer {ADMIN_TOKEN}x".encode(),
        f"Basic {ADMIN_TOKEN}".encode(),
        ADMIN_TOKEN.encode(),
        b"Bearer \xff\xfe\x80",
        "Bearer grüße".encode(),
        b"Bearer " + b"a" * 4000,
    ]
    texts = set()
    with app.client(token=None) as client:
        for header in given:
            headers = [] if header is None else [(b"Authorization", header)]
            answer = client.request(method, path, headers=headers)
            if answer.status_code == 429:
                problem_of(answer, 429, "too_many_failures")
                assert ADMIN_TOKEN not in answer.text
                continue
            problem_of(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
            texts.add(answer.text)
        refused = client.request(method, f"{path}?limit=nonsense&wait=nonsense")
        assert refused.status_code == 401
    assert len(texts) == 1
    assert ADMIN_TOKEN not in texts.pop()


def test_the_scheme_has_no_case(app: AppProcess) -> None:
    """`bearer` in any case is the scheme, as RFC 9110 says."""
    with app.client(token=None) as client:
        answer = client.get(BASE, headers={"Authorization": f"bEARER {ADMIN_TOKEN}"})
    assert answer.status_code == 200


def test_without_an_admin_token_the_routes_are_closed(tmp_path: Path) -> None:
    """With `ADMIN_TOKEN` unset, admin routes are 503 with the way out, whatever is sent."""
    settings = {name: value for name, value in bot_secrets().items() if name != "ADMIN_TOKEN"}
    installation = Installation(tmp_path, settings)
    with AppProcess.start(installation) as app:
        for token in (None, ADMIN_TOKEN, "None"):
            with app.client(token) as client:
                for method, path in ADMIN_ROUTES:
                    answer = client.request(method, path)
                    problem = problem_of(answer, 503, "admin_token_unset")
                    assert "Set ADMIN_TOKEN in .env" in problem["hint"]
                assert client.get("/healthz").status_code == 200
        assert "ADMIN_TOKEN is not set" in app.output()


# --- looking around ---------------------------------------------------------------------


def test_the_folder_itself_is_the_status(http: httpx2.Client) -> None:
    """`GET /admin/backups` and `GET /admin/backups/status` are the same document."""

    def asked_twice() -> dict[str, Any] | None:
        """The document, unless the app went on between the two requests."""
        status, same = status_of(http), http.get(BASE).json()
        for one in (status, same):  # with the seconds since each thread's last sign of life
            assert all(fact.pop("detail") for fact in one["protected_by"].values())
        return status if same == status else None

    status = eventually(asked_twice, "the same document from both")
    assert status["target"]["kind"] == "directory"
    assert status["healthy"]


def test_status_names_the_scheduling_process(app: AppProcess, http: httpx2.Client) -> None:
    """The schedule's owner is the process that serves, when there is only one."""
    owner = status_of(http)["schedule"]["owner"]
    assert owner == {"host": socket.gethostname(), "pid": app.pid}


def test_sets_and_runs_are_paged(http: httpx2.Client) -> None:
    """`limit` and `before` walk sets and runs from the newest to the oldest."""
    for _ in range(2):
        assert http.post(f"{BASE}/run", params={"wait": True}).status_code == 200
    for name, check in (("sets", check_set), ("runs", check_run)):
        whole = http.get(f"{BASE}/{name}").json()
        added = {"listed_at", "error", "ranges"} if name == "sets" else set()
        assert set(whole) == {name, "next"} | added
        assert whole["next"] is None
        ids = [check(one)["id"] for one in whole[name]]
        assert len(ids) >= 3
        first = http.get(f"{BASE}/{name}", params={"limit": 2}).json()
        assert [one["id"] for one in first[name]] == ids[:2]
        assert first["next"] == ids[1]
        rest = http.get(f"{BASE}/{name}", params={"before": first["next"]}).json()
        assert [one["id"] for one in rest[name]] == ids[2:]


def test_one_set_and_one_run(http: httpx2.Client) -> None:
    """A set and a run are found by their id, as they stand in the lists."""
    for name in ("sets", "runs"):
        newest = http.get(f"{BASE}/{name}").json()[name][0]
        assert http.get(f"{BASE}/{name}/{newest['id']}").json() == newest


def test_what_is_not_there(http: httpx2.Client) -> None:
    """Unknown sets, runs, routes and methods are problem documents."""
    problem_of(http.get(f"{BASE}/sets/{UNKNOWN_SET}"), 404, "set_not_found")
    problem_of(http.get(f"{BASE}/sets/..%2f..%2fetc"), 404, "http")
    problem_of(http.get(f"{BASE}/runs/nope"), 404, "run_not_found")
    problem_of(http.get(f"{BASE}/runs", params={"before": "nope"}), 404, "run_not_found")
    problem_of(http.get(f"{BASE}/sets", params={"before": "1"}), 404, "set_not_found")
    problem_of(http.post(f"{BASE}/sets/{UNKNOWN_SET}/verify"), 404, "set_not_found")
    problem_of(http.post(f"{BASE}/adopt", json={"confirm": "x"}), 404, "instance_unknown")
    problem_of(http.post(f"{BASE}/adopt"), 422, "bad_request")
    problem_of(http.get(f"{BASE}/nope"), 404, "http")
    problem_of(http.get("/nope"), 404, "http")
    refused = http.delete(f"{BASE}/runs")
    problem_of(refused, 405, "http")
    assert refused.headers["allow"] == "GET"


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", "1.5", ""])
def test_a_bad_limit(http: httpx2.Client, limit: str) -> None:
    """A limit that is not a whole number from 1 to 1000 is a problem that names it."""
    for name in ("sets", "runs"):
        answer = http.get(f"{BASE}/{name}", params={"limit": limit})
        assert "limit" in problem_of(answer, 422, "bad_request")["detail"]


def test_the_openapi_document_lists_the_routes(http: httpx2.Client) -> None:
    """`/openapi.json` has every route with its method, and the refusals of the admin routes."""
    paths = http.get("/openapi.json").json()["paths"]
    for method, path in (
        ("get", BASE),
        ("get", f"{BASE}/status"),
        ("get", f"{BASE}/sets"),
        ("get", f"{BASE}/sets/{{set_id}}"),
        ("get", f"{BASE}/runs"),
        ("get", f"{BASE}/runs/{{run_id}}"),
        ("post", f"{BASE}/run"),
        ("post", f"{BASE}/sets/{{set_id}}/verify"),
    ):
        assert {"401", "503", "409"} <= set(paths[path][method]["responses"])
        assert paths[path][method]["summary"]
    assert "get" in paths["/healthz"]


# --- runs -------------------------------------------------------------------------------


def test_a_run_in_the_background(http: httpx2.Client) -> None:
    """`POST /run` answers 202 with the running run, whose `Location` leads to its end."""
    started = http.post(f"{BASE}/run")
    assert check_run(started.json())["status"] == "running"
    run = follow(http, started)
    assert (run["status"], run["trigger"]) == ("succeeded", "manual")
    made = check_set(http.get(f"{BASE}/sets/{run['set_id']}").json())
    assert made["complete"]
    assert status_of(http)["newest_restore_point"] == made


def test_a_run_that_is_waited_for(http: httpx2.Client) -> None:
    """`POST /run?wait=true` answers 200 with the finished run."""
    answer = http.post(f"{BASE}/run?wait=true")
    assert answer.status_code == 200
    run = check_run(answer.json())
    assert run["status"] == "succeeded"
    assert http.get(answer.headers["location"]).json() == run


def test_a_run_of_one_source(http: httpx2.Client) -> None:
    """`only` makes a set that does not become the newest restore point; a bad one is 422."""
    run = http.post(f"{BASE}/run", params={"only": "sessions", "wait": True}).json()
    assert not http.get(f"{BASE}/sets/{run['set_id']}").json()["complete"]
    assert status_of(http)["newest_restore_point"]["id"] != run["set_id"]
    problem = problem_of(http.post(f"{BASE}/run?only=nope"), 422, "source_unknown")
    assert "tokens, sessions" in problem["hint"]


def test_a_set_is_proven_again(http: httpx2.Client) -> None:
    """`POST /sets/{id}/verify` proves a set again, waited for or not."""
    before = http.get(f"{BASE}/sets").json()["sets"][0]
    run = follow(http, http.post(f"{BASE}/sets/{before['id']}/verify"))
    assert (run["operation"], run["status"], run["set_id"]) == (
        "verify",
        "succeeded",
        before["id"],
    )
    assert http.get(f"{BASE}/sets/{before['id']}").json()["proven_at"] > before["proven_at"]
    waited = http.post(f"{BASE}/sets/{before['id']}/verify", params={"wait": True})
    assert (waited.status_code, waited.json()["status"]) == (200, "succeeded")


def test_only_one_run_at_a_time(app: AppProcess, http: httpx2.Client) -> None:
    """While a run holds the lease, another is 409 with its id; then it ends as it should."""
    with app.installation.locked_tokens():
        started = http.post(f"{BASE}/run")
        running = eventually(
            lambda: (
                (found := status_of(http)["running"]) and found["stage"] == "snapshot" and found
            ),
            "the run waits in its snapshot stage",
        )
        assert running["id"] == started.json()["id"]
        problem = problem_of(http.post(f"{BASE}/run"), 409, "run_in_progress", "run_id")
        assert problem["run_id"] == started.json()["id"]
        assert http.get("/healthz").status_code == 200
    assert follow(http, started)["status"] == "succeeded"


def test_a_run_of_another_process_is_in_the_way(app: AppProcess, http: httpx2.Client) -> None:
    """A lease that another process holds is 409 as well, also before that has a run."""
    held = app.installation.backup_dir.run_lease.try_acquire(timeout=5)
    assert held is not None
    try:
        problem = problem_of(http.post(f"{BASE}/run"), 409, "run_in_progress", "run_id")
        assert problem["run_id"] is None
    finally:
        held.release()


def test_a_run_that_fails(tmp_path: Path) -> None:
    """A failed run is a problem with the run in it if waited for, and else told by its run."""
    installation = Installation(
        tmp_path, {**bot_secrets(), "BACKUP_EXTRA_SOURCES": "orders=./data/orders.db"}
    ).make_databases()
    with AppProcess.start(installation) as app, app.client() as client:
        eventually(lambda: status_of(client)["last_run"], "the first backup")
        waited = client.post(f"{BASE}/run?wait=true")
        problem = problem_of(waited, 500, "database_missing", "run")
        run = check_run(problem["run"])
        assert (run["status"], run["stage"], run["set_id"]) == ("failed", "snapshot", None)
        assert run["error"]["message"] == problem["detail"]
        assert "orders" in problem["detail"]
        assert waited.headers["location"] == f"{BASE}/runs/{run['id']}"
        again = follow(client, client.post(f"{BASE}/run"))
        assert again["error"]["code"] == "database_missing"
        status = status_of(client)
        assert not status["healthy"]
        assert {found["code"] for found in status["problems"]} == {
            "source_missing",
            "last_run_failed",
            "no_restore_point",
        }
        stored = client.get(f"{BASE}/sets").json()["sets"]
        assert {one["complete"] for one in stored} == {False}
        assert client.get("/healthz").status_code == 200


# --- the store's bad days ---------------------------------------------------------------


def closed_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_store_that_is_not_there(tmp_path: Path, s3_server: S3Server, bucket: str) -> None:
    """An unreachable store never stops the bot: it serves, status is unhealthy, runs fail."""
    settings = s3_server.settings(bucket, endpoint=f"http://127.0.0.1:{closed_port()}")
    installation = Installation(tmp_path, {**bot_secrets(), **spaces(settings)}).make_databases()
    with AppProcess.start(installation) as app, app.client() as client:
        assert not status_of(client)["healthy"]
        status = eventually(
            lambda: (found := status_of(client))["last_run"] and found, "a run", seconds=60
        )
        assert "last_run_failed" in {found["code"] for found in status["problems"]}
        (failed,) = (one for one in status["problems"] if one["code"] == "last_run_failed")
        retry_at = status["schedule"]["retry_at"]
        assert f"The app tries again by itself at {retry_at[:19]}Z" in failed["hint"]
        assert retry_at in installation.cli("status").stdout
        run = status["last_run"]
        assert (run["trigger"], run["status"], run["stage"]) == ("catch-up", "failed", "check")
        assert run["error"]["code"] == "store_unreachable"
        assert "SPACES_ENDPOINT" in run["error"]["hint"]
        assert status["target"]["last_contact_at"] is None
        assert client.get("/healthz").status_code == 200
    assert "Traceback" not in app.output()


def test_a_store_that_hangs(tmp_path: Path, s3_server: S3Server, bucket: str) -> None:
    """While a run waits for a store that says nothing, the app serves and names the run."""
    with FaultProxy(s3_server.endpoint) as proxy:
        settings = spaces(proxy.settings(s3_server.settings(bucket)))
        installation = Installation(tmp_path, {**bot_secrets(), **settings}).make_databases()
        with AppProcess.start(installation) as app, app.client() as client:
            eventually(lambda: status_of(client)["last_success"], "the first backup")
            proxy.on(hang(), method="PUT")
            started = client.post(f"{BASE}/run")
            proxy.wait_until_met()
            set_id = status_of(client)["newest_restore_point"]["id"]
            refused = client.post(f"{BASE}/sets/{set_id}/verify?wait=true")
            problem = problem_of(refused, 409, "run_in_progress", "run_id")
            assert problem["run_id"] == started.json()["id"]
            assert client.get("/healthz").status_code == 200
            assert status_of(client)["running"]["id"] == started.json()["id"]
            proxy.lift()
            assert follow(client, started)["status"] == "succeeded"


def test_health_answers_when_all_else_waits(
    tmp_path: Path, s3_server: S3Server, bucket: str
) -> None:
    """However many requests wait for a store that hangs, `/healthz` answers at once."""
    with FaultProxy(s3_server.endpoint) as proxy:
        settings = spaces(proxy.settings(s3_server.settings(bucket)))
        installation = Installation(tmp_path, {**bot_secrets(), **settings}).make_databases()
        with (
            AppProcess.start(installation) as app,
            app.client() as client,
            ThreadPoolExecutor(50) as pool,
        ):
            eventually(lambda: status_of(client)["last_success"], "the first backup")
            proxy.on(hang(), method="LIST")
            waiting = [pool.submit(client.get, f"{BASE}/sets") for _ in range(50)]
            proxy.wait_until_met(40)  # the threads that Starlette has for such requests
            assert httpx2.get(f"{app.url}/healthz", timeout=5, trust_env=False).status_code == 200
            proxy.lift()
            assert [one.result().status_code for one in waiting] == [200] * 50


# --- secrets ----------------------------------------------------------------------------


def test_no_secret_in_any_answer_or_line(tmp_path: Path, s3_server: S3Server, bucket: str) -> None:
    """No key, token or stored value is in an answer or in the log, on good days and bad ones."""
    settings = s3_server.settings(bucket)
    installation = Installation(
        tmp_path, {**bot_secrets(), **spaces(settings), "BACKUP_LOG_DIR": "logs"}
    ).make_databases()
    answers: list[str] = []

    def keep(answer: httpx2.Response) -> None:
        answer.read()
        answers.append(f"{answer.headers}{answer.text}")

    with AppProcess.start(installation) as app, app.client() as client:
        client.event_hooks["response"].append(keep)
        eventually(lambda: status_of(client)["last_success"], "the first backup")
        made = client.get(f"{BASE}/sets").json()["sets"][0]
        assert client.post(f"{BASE}/sets/{made['id']}/verify?wait=true").status_code == 200
        for method, path in (*ADMIN_ROUTES, ("GET", "/openapi.json")):
            client.request(method, path)
            client.request(method, path, headers={"Authorization": f"Basic {ADMIN_TOKEN}"})
        s3_server.client().delete_object(Bucket=bucket, Key=made["objects"][0]["key"])
        failed = client.post(f"{BASE}/sets/{made['id']}/verify?wait=true")
        assert failed.status_code in (409, 500)
    seen = "".join([*answers, app.output(), *(p.read_text() for p in tmp_path.glob("logs/*"))])
    assert "backups.tokens" in seen
    secrets = {
        "admin token": ADMIN_TOKEN,
        "state secret": STATE_TOKEN_SECRET,
        "encryption key": TOKEN_ENCRYPTION_KEY,
        "Spaces key": settings.api_key,
        "Spaces secret": settings.api_secret,
        "a token": secret_of(0),
        "a signature": "X-Amz-Signature",
        "an authorization": "AWS4-HMAC",
    }
    assert [name for name, secret in secrets.items() if secret in seen] == []
