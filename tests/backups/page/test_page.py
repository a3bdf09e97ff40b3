"""The page over HTTP, without a browser: who is let in, what is sent, and what it shows."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from fastapi.routing import APIRoute

from app import create_app
from backups.host.records import open_records
from backups.host.run_log import RunLog
from backups.model import RunError
from backups.vocabulary.stages import STAGES
from shared.clock import SystemClock
from shared.merchants.inbox import Event, Inbox, open_inbox
from shared.web.admin_auth import OF_ALL, PER_CLIENT
from tests.support.app_process import AppProcess
from tests.support.history import SESSIONS, TOKENS, give_history, quiet_settings
from tests.support.installation import (
    ADMIN_TOKEN,
    TOKEN_ENCRYPTION_KEY,
    Installation,
    bot_secrets,
)
from tests.support.marks import MARK_KEY
from tests.support.records import a_failed_run
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

FORM = re.compile(r'name="form_token" value="([^"]+)"')
HOSTILE = "<script>alert('x')</script> \"' onload=x <img src=x>"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app with a past, and a run in it whose error means harm."""
    settings = {**bot_secrets(), **quiet_settings()}
    installation = Installation(tmp_path_factory.mktemp("page"), settings).make_databases(
        TOKENS, SESSIONS
    )
    give_history(installation)
    with closing(open_records(installation.backup_dir.path)) as records:
        log = RunLog(records)
        error = RunError("proof_failed", HOSTILE, HOSTILE)
        run = a_failed_run("hostile", operation="verify", error=error)
        log.start(run)
        log.finish(run)
    with AppProcess.start(installation) as app:
        yield app
    assert "Traceback" not in app.output()


@pytest.fixture
def visitor(app: AppProcess) -> Iterator[httpx2.Client]:
    """A client without a login."""
    with app.client(token=None) as client:
        yield client


@pytest.fixture
def operator(visitor: httpx2.Client) -> httpx2.Client:
    """A client that is logged in."""
    assert log_in(visitor).status_code == 303
    return visitor


def log_in(client: httpx2.Client, token: str = ADMIN_TOKEN, **fields: str) -> httpx2.Response:
    """Send the login form."""
    return client.post("/admin/login", data={"token": token, **fields})


def form_token(client: httpx2.Client) -> str:
    """What the forms of a login carry."""
    found = FORM.search(client.get("/admin/").text)
    assert found is not None
    return found.group(1)


def press(client: httpx2.Client, path: str, **fields: str) -> httpx2.Response:
    """Send a form of the page."""
    return client.post(path, data={"form_token": form_token(client), **fields})


def outcome(client: httpx2.Client, started: httpx2.Response) -> str:
    """Follow an action to the end of its run; its page."""
    assert started.status_code == 303, started.text
    path = started.headers["location"]
    assert path.startswith("/admin/runs/")

    def over() -> str | None:
        text = client.get(path).text
        return None if 'class="tag now"' in text else text

    return eventually(over, "the end of the run")


# --- the bot ----------------------------------------------------------------------------


def test_how_the_bot_does_is_on_the_page(app: AppProcess, operator: httpx2.Client) -> None:
    """What waits, what was set aside, and the command that has it tried again."""
    assert "nothing waits" in operator.get("/admin/").text
    path = app.installation.folder / "data" / "inbox.db"
    with closing(open_inbox(path)) as database:
        inbox = Inbox(database, SystemClock())
        inbox.add(Event("nobody", f"e{one}", "a", "t", "{}") for one in range(3))
        inbox.set_aside(1)
        try:
            text = operator.get("/admin/").text
        finally:
            inbox.finish([1, 2, 3])
    assert "2 updates waiting, the oldest for" in text
    assert "1 set aside" in text
    assert "<code>./bot shared inbox retry</code>" in text
    assert "1 update of the platforms failed for a day and was set aside" in text


# --- who is let in ----------------------------------------------------------------------


def test_without_a_login_there_is_only_the_form(visitor: httpx2.Client) -> None:
    """Any page is 401 with the login form, and says nothing of the backups."""
    for path in (
        "/admin",
        "/admin/",
        "/admin/sets",
        "/admin/runs/nope",
        "/admin/prune",
        "/admin/events",
    ):
        answer = visitor.get(path)
        assert answer.status_code == 401
        assert "Admin token" in answer.text
        assert "restore point" not in answer.text.lower()
        assert answer.headers["www-authenticate"].startswith("Cookie ")


def test_the_cookie(app: AppProcess, visitor: httpx2.Client) -> None:
    """It is HttpOnly, SameSite=Strict, for `/admin` alone, and Secure away from this host."""
    local = log_in(visitor).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/admin"} <= set(local.split("; "))
    assert "Secure" not in local
    away = {"Host": "bot.example.org"}
    far = visitor.post("/admin/login", data={"token": ADMIN_TOKEN}, headers=away)
    assert "Secure" in far.headers["set-cookie"].split("; ")
    assert ADMIN_TOKEN not in local


def test_a_login_that_the_browser_did_not_keep_is_explained(visitor: httpx2.Client) -> None:
    """Over plain http from elsewhere no cookie comes back: the form says why."""
    assert "did not keep the login" in visitor.get("/admin/?login").text


def test_a_cookie_that_was_changed_is_none(app: AppProcess, operator: httpx2.Client) -> None:
    """A cookie with any other character in it lets nobody in."""
    good = operator.cookies["backup_admin"]
    assert operator.get("/admin/").status_code == 200
    for bad in (good[:-1], good + "A", good.replace(".", ",", 1), "", "a.b.c", "\u00e4"):
        with app.client(token=None) as other:
            header = [(b"Cookie", b"backup_admin=" + bad.encode())]
            assert other.get("/admin/", headers=header).status_code == 401


def test_a_logout_ends_the_login_for_good(app: AppProcess, operator: httpx2.Client) -> None:
    """Even who kept the cookie is out; another login goes on."""
    cookie = operator.cookies["backup_admin"]
    with app.client(token=None) as other:
        log_in(other)
        assert press(operator, "/admin/logout").status_code == 303
        assert operator.get("/admin/").status_code == 401
        kept = operator.get("/admin/", headers={"Cookie": f"backup_admin={cookie}"})
        assert kept.status_code == 401
        assert other.get("/admin/").status_code == 200


def test_the_way_on_from_the_login_stays_here(visitor: httpx2.Client) -> None:
    """After the login the page that was asked for follows, and never another site."""
    assert 'value="/admin/runs"' in visitor.get("/admin/runs").text
    assert log_in(visitor, then="/admin/runs").headers["location"] == "/admin/runs?login"
    for bad in ("//evil.example", "https://evil.example/admin/", "/admin/\\evil", "/other"):
        assert log_in(visitor, then=bad).headers["location"] == "/admin/?login"


@pytest.mark.parametrize(
    "path", ["/admin/run", "/admin/drill", "/admin/prune", "/admin/undo", "/admin/logout"]
)
def test_a_form_needs_its_token(operator: httpx2.Client, path: str) -> None:
    """Without the token of this very login an action is 403, and nothing happens."""
    before = operator.get("/admin/runs").text
    for fields in ({}, {"form_token": ""}, {"form_token": "x"}, {"form_token": "\u00e4"}):
        answer = operator.post(path, data=fields)
        assert answer.status_code == 403
        assert "form_refused" in answer.text
    assert operator.get("/admin/runs").text == before


def test_a_form_of_another_login_is_refused(app: AppProcess, operator: httpx2.Client) -> None:
    """The token of one login is of no use in another."""
    with app.client(token=None) as other:
        log_in(other)
        stolen = form_token(other)
    assert operator.post("/admin/run", data={"form_token": stolen}).status_code == 403


def test_another_site_cannot_log_in_here(visitor: httpx2.Client) -> None:
    """A login form that another site sends is refused, even with the token."""
    headers = {"Sec-Fetch-Site": "cross-site"}
    refused = visitor.post("/admin/login", data={"token": ADMIN_TOKEN}, headers=headers)
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


def test_a_large_form_is_refused(visitor: httpx2.Client) -> None:
    """A body that no form has is not read to its end."""
    assert visitor.post("/admin/login", content=b"a" * 100_000).status_code == 403


def test_changed_secrets_end_every_login(tmp_path: Path) -> None:
    """A cookie of another `ADMIN_TOKEN` or `STATE_TOKEN_SECRET` is none."""
    installation = Installation(tmp_path, bot_secrets())
    with AppProcess.start(installation) as app, app.client(token=None) as client:
        log_in(client)
        cookie = {"Cookie": f"backup_admin={client.cookies['backup_admin']}"}
        assert client.get("/admin/").status_code == 200
    for name in ("ADMIN_TOKEN", "STATE_TOKEN_SECRET"):
        changed = installation.with_settings(**{name: "another-secret-of-the-tests-0123"})
        with AppProcess.start(changed) as app, app.client(token=None) as client:
            assert client.get("/admin/", headers=cookie).status_code == 401


def test_without_an_admin_token_the_page_says_what_to_set(tmp_path: Path) -> None:
    """With `ADMIN_TOKEN` unset the page is 503 with the remedy, and nobody can log in."""
    settings = {name: value for name, value in bot_secrets().items() if name != "ADMIN_TOKEN"}
    with AppProcess.start(Installation(tmp_path, settings)) as app, app.client(None) as client:
        for answer in (client.get("/admin/"), log_in(client), log_in(client, "")):
            assert answer.status_code == 503
            assert "Set ADMIN_TOKEN in .env" in answer.text


# --- bad logins -------------------------------------------------------------------------


def admin_requests() -> list[tuple[str, str]]:
    """Every method and path of the app under `/admin`."""
    found = []
    stack = list(create_app().routes)
    while stack:
        route = stack.pop()
        if isinstance(route, APIRoute):
            path = re.sub(r"{\w+}", "nope", route.path)
            found += [(method, path) for method in route.methods or () if path.startswith("/admin")]
        else:
            stack += getattr(getattr(route, "original_router", None), "routes", [])
    return found


def test_two_hundred_bad_logins_and_no_hint(tmp_path: Path) -> None:
    """Every admin route, whatever is sent: 401 or 429, the same words; the token passes always."""
    routes = admin_requests()
    some = {("GET", "/admin/"), ("POST", "/admin/run"), ("POST", "/admin/backups/run")}
    assert some <= set(routes)
    assert len(routes) > 30
    with AppProcess.start(Installation(tmp_path, bot_secrets())) as app, app.client(None) as client:
        for method, path in routes:
            for body in (b"", b"{", b"form_token=x"):
                headers = {"Content-Type": "application/json"}
                answer = client.request(method, path, content=body, headers=headers)
                assert answer.status_code == 401, (method, path, answer.text)
                assert ADMIN_TOKEN not in answer.text
        seen: dict[int, set[str]] = {}
        for number in range(200):
            token = f"{ADMIN_TOKEN[: number % 40]}{number}"
            if number % 2:
                answer = log_in(client, token)
            else:
                bearer = {"Authorization": f"Bearer {token}"}
                answer = client.get("/admin/backups", headers=bearer)
            assert answer.status_code in (401, 429)
            text = re.sub(r"in \d+ s", "in N s", answer.text)
            seen.setdefault(answer.status_code, set()).add(text)
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= PER_CLIENT.seconds + 1
        assert {status: len(texts) for status, texts in seen.items()} == {401: 2, 429: 2}
        began = time.monotonic()
        assert log_in(client).status_code == 303
        assert client.get("/admin/").status_code == 200
        with app.client() as scripts:
            assert scripts.get("/admin/backups").status_code == 200
        assert time.monotonic() - began < 3
        lines = app.output().count("a wrong admin token was sent client=127.0.0.1")
        assert PER_CLIENT.burst <= lines < 100


def test_the_limits() -> None:
    """A person may mistype a few times; all clients together get no more than ten times that."""
    assert PER_CLIENT.burst == 10
    assert OF_ALL.burst == 10 * PER_CLIENT.burst


# --- what is sent -----------------------------------------------------------------------


def test_every_answer_is_private(operator: httpx2.Client) -> None:
    """The policy forbids inline code, frames and other hosts; nothing is kept by a cache."""
    newest = re.search(r"/admin/sets/(\w+)", operator.get("/admin/").text)
    assert newest is not None
    for path in ("/admin", "/admin/", "/admin/sets", newest.group(), "/admin/runs/nope"):
        answer = operator.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?! src=)|<style|<[^>]*\s(?:style|on\w+)=", answer.text)
        assert not re.search(r'(?:src|href|action)="(?!/|#)', answer.text)


def test_the_files_of_the_page(visitor: httpx2.Client) -> None:
    """Styles and scripts come from this host, for everybody, with their licences beside them."""
    text = visitor.get("/admin/").text
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
    assert len(files) >= 4
    for path in files:
        answer = visitor.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
    for name in ("pico-LICENSE.txt", "uPlot-LICENSE.txt"):
        assert "MIT" in visitor.get(f"/static/vendor/{name}").text
    assert visitor.get("/static/../app.py").status_code == 404
    assert visitor.get("/static/..%2f..%2froutes.py").status_code == 404


def test_a_run_of_the_second_place_leads_there(app: AppProcess, operator: httpx2.Client) -> None:
    """The store does not have its set, or not yet."""
    made = "20260101T000000Z"
    run = replace(a_failed_run("elsewhere"), status="succeeded", error=None, set_id=made)
    with closing(open_records(app.installation.backup_dir.path)) as records:
        RunLog(records).note_elsewhere(run)
    there = f'href="/admin/sets/{made}/restore?place=second"'
    for path in ("/admin/runs", "/admin/runs/elsewhere"):
        text = operator.get(path).text
        assert there in text
        assert "succeeded, second place" in text


def test_hostile_text_is_text(operator: httpx2.Client) -> None:
    """What an error says is shown as it is, and never becomes a part of the page."""
    for path in ("/admin/", "/admin/runs", "/admin/runs/hostile"):
        text = operator.get(path).text
        assert "<script>alert" not in text
        assert "<img" not in text
        assert HOSTILE in html.unescape(text)
    missing = operator.get("/admin/sets/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert "<script>alert" not in missing.text


# --- what it shows and does -------------------------------------------------------------


def test_the_overview_is_whole_without_scripts(operator: httpx2.Client) -> None:
    """Headline, ages, calendar, chart's table, restore points with reasons, runs, drill, keys."""
    headline = '<h1 id="headline">Backed up, on this disk only</h1>'
    # A moment after the start it is not known yet whether all threads live.
    eventually(lambda: headline in operator.get("/admin/").text, "the threads are known to live")
    text = operator.get("/admin/").text
    for words in (
        headline,
        "read back and proven",
        "proven, 1 backup",
        "As a table",
        "newest proven, younger than 7 days",
        f"tokens: {TOKENS}",
        "6.2 s",
        "TOKEN_ENCRYPTION_KEYS",
        "The newest backup has",
    ):
        assert words in text
    assert len(re.findall(r'<td class="\w+" title=', text)) == 90


def test_lists_are_paged(operator: httpx2.Client) -> None:
    """Long lists come in pages, each with the way to older ones and back to the newest."""
    first = operator.get("/admin/runs").text
    older = re.search(r'href="(/admin/runs\?before=[^"]+)" rel="next"', first)
    assert older is not None
    second = operator.get(html.unescape(older.group(1))).text
    assert "Newest</a>" in second
    ids = re.compile(r'href="/admin/runs/([^"?]+)"')
    assert not set(ids.findall(first)) & set(ids.findall(second))
    assert len(set(ids.findall(first)) | set(ids.findall(second))) >= 91


def test_what_is_not_there(operator: httpx2.Client) -> None:
    """Unknown restore points and runs are 404 pages with the way back."""
    for path in ("/admin/sets/nope", "/admin/runs/nope", "/admin/sets/nope/restore", "/admin/undo"):
        answer = operator.get(path)
        assert answer.status_code == 404
        assert "Back to the overview" in answer.text


def test_the_actions(app: AppProcess, operator: httpx2.Client) -> None:
    """Back up, verify, download, drill, restore and prune: each does what its JSON route does."""
    made = outcome(operator, press(operator, "/admin/run"))
    assert "succeeded" in made
    found = re.search(r"/admin/sets/(\w+)", made)
    assert found is not None
    set_id = found.group(1)
    base = f"/admin/sets/{set_id}"
    assert "Verify" in outcome(operator, press(operator, f"{base}/verify"))
    got = operator.get(f"{base}/objects/tokens")
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["cache-control"] == "no-store"
    assert "attachment" in got.headers["content-disposition"]
    assert got.content.startswith(b"SQLite format 3\0")
    assert len(got.content) == int(got.headers["content-length"])
    assert operator.get(f"{base}/objects/nope").status_code == 422
    wrong = press(operator, f"{base}/restore", confirm=f"{set_id}x")
    assert wrong.status_code == 409
    assert "Nothing was changed" in wrong.text
    restored = press(operator, f"{base}/restore", confirm=set_id)
    assert "succeeded" in outcome(operator, restored)
    assert "Put it back" in operator.get("/admin/undo").text
    assert "succeeded" in outcome(operator, press(operator, "/admin/undo"))
    assert "succeeded" in outcome(operator, press(operator, "/admin/drill"))
    assert "succeeded" in outcome(operator, press(operator, "/admin/prune"))
    assert press(operator, f"{base}/accept").headers["location"] == base
    assert press(operator, "/admin/accept-missing").headers["location"] == "/admin/"


def test_a_set_is_deleted_with_its_id_typed(operator: httpx2.Client) -> None:
    """The page says what would go, and refuses the newest good set by name; then it is gone."""
    ids = []
    for _ in range(2):
        found = re.search(r"/admin/sets/(\w+)", outcome(operator, press(operator, "/admin/run")))
        assert found is not None
        ids.append(found.group(1))
    older, newest = (f"/admin/sets/{one}" for one in ids)
    assert f'href="{older}/delete"' in operator.get(older).text
    shown = operator.get(f"{older}/delete")
    assert "This cannot be undone" in shown.text
    assert "Nothing has been changed yet" in shown.text
    refused = operator.get(f"{newest}/delete")
    assert refused.status_code == 409
    assert "is the newest complete, proven set, and is never deleted" in refused.text
    assert "<code>./bot backups run</code>" in refused.text
    assert press(operator, f"{newest}/delete", confirm=ids[1]).status_code == 409
    wrong = press(operator, f"{older}/delete", confirm=ids[1])
    assert wrong.status_code == 409
    assert "That is not the id. Nothing was changed." in wrong.text
    done = outcome(operator, press(operator, f"{older}/delete", confirm=ids[0]))
    assert "succeeded" in done
    assert steps(done) == [(stage.name, "done") for stage in STAGES["delete"]]
    gone = operator.get(older)
    assert gone.status_code == 404
    assert "was deleted on purpose" in gone.text
    assert ids[0] not in operator.get("/admin/sets").text


def steps(page: str) -> list[tuple[str, str]]:
    """The steps on the page of a run: the stage of each, and how it is marked."""
    return [
        (stage, mark) for mark, stage in re.findall(r'<li class="(\w+)" data-stage="(\w+)"', page)
    ]


def test_the_steps_of_a_run(operator: httpx2.Client) -> None:
    """After a restore, an undo and a drill, their pages show each of their stages as done."""
    made = outcome(operator, press(operator, "/admin/run"))
    found = re.search(r"/admin/sets/(\w+)", made)
    assert found is not None
    path = f"/admin/sets/{found.group(1)}/restore"
    pages = {
        "backup": [made],
        "restore": [
            outcome(operator, press(operator, path, confirm=found.group(1))),
            outcome(operator, press(operator, "/admin/undo")),
        ],
        "drill": [outcome(operator, press(operator, "/admin/drill"))],
    }

    for operation, stages in STAGES.items():
        for page in pages.get(operation, []):
            assert steps(page) == [(stage.name, "done") for stage in stages]


def test_an_object_that_is_gone(app: AppProcess, operator: httpx2.Client) -> None:
    """A download of what the store has lost is a 502 page, not an empty file."""
    older = re.findall(r"/admin/sets/(\w+)", operator.get("/admin/sets").text)[-1]
    key = app.installation.json("list", "--limit", "1000")["sets"][-1]["objects"][0]["key"]
    app.installation.stored(key).unlink()
    answer = operator.get(f"/admin/sets/{older}/objects/tokens")
    assert answer.status_code == 502
    assert "object_missing" in answer.text


def test_a_set_is_pinned_on_its_page(operator: httpx2.Client) -> None:
    """The label is text, and nothing else; a button lets the set go again."""
    page = re.findall(r"/admin/sets/\w+", operator.get("/admin/sets").text)[0]
    assert press(operator, f"{page}/pin", label="<i>kept</i>").headers["location"] == page
    text = operator.get(page).text
    assert "&lt;i&gt;kept&lt;/i&gt;" in text
    assert "<i>kept" not in text
    assert press(operator, f"{page}/unpin").headers["location"] == page
    text = operator.get(page).text
    assert "Pin it" in text
    assert "kept&lt;/i&gt;" not in text


def test_while_another_run_is_in_progress(app: AppProcess, operator: httpx2.Client) -> None:
    """An action is 409 and names the run that is there; events tell its stage."""

    def at_rest() -> bool:
        """Whether the app makes no run of its own accord, as it may after a test before this."""
        with app.client() as client:
            return client.get("/admin/backups/status").json()["running"] is None

    eventually(at_rest, "the end of what the app does by itself")
    with app.installation.locked_tokens():
        started = press(operator, "/admin/run")
        run_id = started.headers["location"].rpartition("/")[2]
        refused = press(operator, "/admin/drill")
        assert refused.status_code == 409
        assert f"/admin/runs/{run_id}" in refused.text
        with operator.stream("GET", "/admin/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            line = next(line for line in stream.iter_lines() if line.startswith("data:"))
            assert f'"id": "{run_id}", "status": "running"' in line
        assert 'http-equiv="refresh"' in operator.get(f"/admin/runs/{run_id}").text
    assert "succeeded" in outcome(operator, started)


def test_open_streams_do_not_hold_up_a_shutdown(tmp_path: Path) -> None:
    """An app that is told to stop does so within seconds while somebody watches."""
    with AppProcess.start(Installation(tmp_path, bot_secrets())) as app, app.client(None) as client:
        log_in(client)
        with client.stream("GET", "/admin/events") as stream:
            lines = stream.iter_lines()  # kept: without it, the client would close the stream
            assert next(lines)
            _, seconds = app.terminate()
    assert seconds < 10


def test_a_loss_is_shown_with_a_button_that_accepts_it(tmp_path: Path) -> None:
    """The page marks the hollow set, and offers to accept the loss until somebody did."""
    installation = Installation(tmp_path, {**bot_secrets(), **quiet_settings()}).make_databases()
    made = installation.json("run")["set"]
    installation.stored(made["objects"][0]["key"]).unlink()
    button = 'action="/admin/accept-missing"'
    with AppProcess.start(installation) as app, app.client() as script:
        sets = {one["id"]: one for one in script.get("/admin/backups/sets").json()["sets"]}
        assert (sets[made["id"]]["hollow"], sets[made["id"]]["proof"]) == (True, "none")
        with app.client(token=None) as person:
            log_in(person)
            shown = person.get("/admin/").text
            assert "objects missing" in shown
            assert button in shown
            assert person.post("/admin/accept-missing").status_code == 403
            assert press(person, "/admin/accept-missing").headers["location"] == "/admin/"
            outcome(person, press(person, "/admin/run"))  # a newer proven set
            assert button not in person.get("/admin/").text
        assert script.post("/admin/backups/accept-missing").json() == {"missing": []}


# --- the emergency kit ------------------------------------------------------------------


def test_the_kit_is_ticked_on_its_page(
    app: AppProcess, visitor: httpx2.Client, operator: httpx2.Client
) -> None:
    """The sheet has fingerprints and no key; a form without its token or its tick notes nothing."""
    with app.client(token=None) as stranger:
        assert stranger.get("/admin/kit").status_code == 401
        assert stranger.post("/admin/kit", data={"kept": "yes"}).status_code == 401
    sheet = operator.get("/admin/kit").text
    assert TOKEN_ENCRYPTION_KEY not in sheet
    assert MARK_KEY.fingerprint in sheet
    assert operator.post("/admin/kit", data={"kept": "yes"}).status_code == 403
    assert press(operator, "/admin/kit").status_code == 303
    assert "I keep it elsewhere" in operator.get("/admin/kit").text
    assert press(operator, "/admin/kit", kept="yes").status_code == 303
    kept = operator.get("/admin/kit").text
    assert "I keep it elsewhere" not in kept
    assert "kept elsewhere" in kept
    assert "kept elsewhere, confirmed" in operator.get("/admin/").text


# --- the checks, and who is notified ----------------------------------------------------


def test_the_checks_end_with_the_light(
    app: AppProcess, visitor: httpx2.Client, operator: httpx2.Client
) -> None:
    """The page has what the doctor finds, the light as its end, and who is notified."""
    with app.client(token=None) as stranger:
        assert stranger.get("/admin/doctor").status_code == 401
        assert stranger.post("/admin/notify").status_code == 401
    shown = operator.get("/admin/doctor").text
    title = re.search('<h1 id="headline">([^<]+)</h1>', operator.get("/admin/").text)
    assert title is not None
    assert f": {title[1]}.</strong>" in shown
    assert '<p id="notified">Nobody.</p>' in shown
    assert "Send a test message" not in shown
    assert operator.post("/admin/notify").status_code == 403
