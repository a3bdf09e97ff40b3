"""What every answer has and has not: headers, CORS, the admin's guard, what a fault tells."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import create_app, read_settings
from facebook_integration.settings import FACEBOOK_NAMES
from shared.errors import SettingsError
from shopify_integration.settings import SHOPIFY_NAMES
from tests.support.app_process import AppProcess
from tests.support.bot import Bot
from tests.support.installation import ADMIN_TOKEN, Installation, bot_secrets
from tests.support.merchant import Merchant, refused

BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
PAGE = {"Accept": "text/html,application/xhtml+xml"}


def routes() -> list[tuple[str, str]]:
    """Every documented method and path of the app, with something in the place of names."""
    found = create_app().openapi()["paths"]
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, methods in found.items()
        for method in methods
    ]


ADMIN_ROUTES = [one for one in routes() if one[1].startswith("/admin")]


# --- the admin's routes -----------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
def test_every_admin_route_asks_for_the_token_first(
    lasting_bot: Bot, merchant: Merchant, method: str, path: str
) -> None:
    """Neither a cookie nor a parameter nor another header opens it."""
    assert ("POST", "/admin/sync") in ADMIN_ROUTES
    url = f"{lasting_bot.app.url}{path}"
    session = {"Cookie": f"session={'x' * 43}; admin_token={ADMIN_TOKEN}"}
    attempts: list[tuple[dict[str, str], bytes, str]] = [
        ({}, b"", ""),
        (session, b"", ""),
        ({}, b"", f"?token={ADMIN_TOKEN}&access_token={ADMIN_TOKEN}&admin_token={ADMIN_TOKEN}"),
        ({"X-Admin-Token": ADMIN_TOKEN, "X-Forwarded-For": "127.0.0.1"}, b"", ""),
        ({"Content-Type": "application/json"}, b'{"confirm": 1}', ""),
    ]
    for headers, body, query in attempts:
        answer = merchant.get(url + query, headers=headers) if method == "GET" else None
        if answer is None:
            answer = merchant.post(url + query, headers=headers, content=body)
        refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_polling_is_asked_for_with_the_token_alone(lasting_bot: Bot) -> None:
    """`POST /admin/sync`: every other header is 401 and never a fault, the right one is 202."""
    given: tuple[list[bytes], ...] = (
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer \xff\xfe"],
        ["Bearer grüße".encode()],
        [b"Bearer " + b"a" * 20_000],
        [f"Basic {ADMIN_TOKEN}".encode()],
        [f"Bearer {ADMIN_TOKEN.upper()}".encode()],
        [f"Bearer {ADMIN_TOKEN}, Bearer x".encode()],
        [b"Bearer wrong", f"Bearer {ADMIN_TOKEN}".encode()],
    )
    with httpx2.Client(base_url=lasting_bot.app.url, trust_env=False, timeout=30) as client:
        for values in given:
            headers = [(b"Authorization", value) for value in values]
            refused(client.post("/admin/sync", headers=headers), 401, "unauthorized")
        for method in ("GET", "PUT", "DELETE", "HEAD"):
            answer = client.request(method, "/admin/sync", headers=BEARER)
            assert answer.status_code == 405
        assert client.post("/admin/sync", headers=BEARER).status_code == 202


# --- headers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(lasting_bot: Bot) -> Iterator[list[httpx2.Response]]:
    """An answer of every route, right and wrong, to programs and to browsers."""
    found = []
    with httpx2.Client(base_url=lasting_bot.app.url, trust_env=False, timeout=60) as client:
        paths = [
            *routes(),
            ("GET", "/none"),
            ("GET", "/openapi.json"),
            ("PUT", "/"),
            ("GET", "/x/"),
        ]
        for method, path in paths:
            for headers in ({}, PAGE, BEARER, {**BEARER, **PAGE}):
                if "Authorization" in headers and method == "POST" and "backups" in path:
                    continue  # these would do something
                asked = {**headers, "Origin": "https://evil.example"}
                found.append(client.request(method, path, headers=asked))
        yield found


def test_every_answer_has_the_headers_that_make_browsers_careful(
    everything: list[httpx2.Response],
) -> None:
    """nosniff, no referrer, and nothing kept; on redirects, refusals and unknown paths too."""
    assert {200, 202, 302, 401, 403, 404, 405, 422} <= {one.status_code for one in everything}
    for answer in everything:
        about = f"{answer.request.method} {answer.request.url} {answer.status_code}"
        assert answer.status_code < 500, about
        assert answer.headers["x-content-type-options"] == "nosniff", about
        assert answer.headers["referrer-policy"] == "no-referrer", about
        assert answer.headers["cache-control"] == "no-store", about


def test_pages_and_admin_answers_run_nothing(everything: list[httpx2.Response]) -> None:
    """Their policy allows no script, no frame around them, and nothing from elsewhere."""
    pages = [one for one in everything if "html" in one.headers.get("content-type", "")]
    admin = [one for one in everything if one.request.url.path.startswith("/admin")]
    assert len(pages) > 10
    assert {200, 401, 404} <= {one.status_code for one in admin}
    for answer in (*pages, *admin):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, answer.request.url
        assert "frame-ancestors 'none'" in policy, answer.request.url
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        assert "<script" not in answer.text


def test_no_other_site_may_read_an_answer(
    lasting_bot: Bot, everything: list[httpx2.Response]
) -> None:
    """There is no CORS: not for a request, not for the question before one."""
    answers = list(everything)
    with httpx2.Client(base_url=lasting_bot.app.url, trust_env=False, timeout=30) as client:
        for method, path in routes():
            asked = {
                "Origin": "https://evil.example",
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization",
            }
            answers.append(client.options(path, headers=asked))
    for answer in answers:
        named = [name for name in answer.headers if name.lower().startswith("access-control")]
        assert not named, answer.request.url


def test_every_answer_of_the_bot_has_a_model() -> None:
    """What a route returns passes through a model that names each field, and drops the rest."""
    document = create_app().openapi()
    bot = [path for path in document["paths"] if not path.startswith("/admin/backups")]
    checked = 0
    for path in bot:
        for method, operation in document["paths"][path].items():
            for status, answer in operation["responses"].items():
                schema = answer.get("content", {}).get("application/json", {}).get("schema")
                if not status.startswith("2") or schema is None:
                    continue
                of_texts = schema.get("additionalProperties") == {"type": "string"}
                assert "$ref" in schema or of_texts, f"{method} {path}: {schema}"
                checked += 1
    assert checked >= 7


@pytest.fixture(scope="module")
def broken() -> Iterator[TestClient]:
    """The app with two routes that have a fault, and without its lifespan."""
    app: FastAPI = create_app()

    def fault() -> None:
        raise RuntimeError("access_token=EAA-secret in /home/of/somebody")

    app.add_api_route("/fault", fault)
    app.add_api_route("/admin/fault", fault)
    client = TestClient(app, raise_server_exceptions=False)
    yield client
    client.close()


@pytest.mark.parametrize("path", ["/fault", "/admin/fault"])
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_a_fault_tells_nothing_and_has_the_same_headers(
    broken: TestClient, path: str, accept: str
) -> None:
    """A 500 is as careful as any other answer, and has no word of what went wrong inside."""
    answer = broken.get(path, headers={"Accept": accept})
    assert answer.status_code == 500
    for inner in ("RuntimeError", "secret", "somebody", "Traceback", ".py"):
        assert inner not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    if path.startswith("/admin") or accept == "text/html":
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_page_repeats_nothing_that_a_browser_could_run(merchant: Merchant) -> None:
    """What a request brings is escaped or left out on every page."""
    script = "<script>alert(1)</script>"
    for path in (
        f"/shopify/login?shop={script}",
        f"/shopify/{script}/login",
        f"/facebook/data-deletion/{script}",
        f"/shopify/callback?shop={script}&state={script}",
        f"/{script}",
        f"/?shop={script}",
        f"/shopify/login?x={script}",
    ):
        answer = merchant.get(path, headers=PAGE)
        assert answer.headers["content-type"].startswith("text/html")
        assert "<script" not in answer.text


# --- platforms that are not set up ----------------------------------------------------------


PLATFORM_ROUTES = [one for one in routes() if one[1].startswith(("/shopify", "/facebook"))]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app without the settings of any platform, whose blank ones count as unset."""
    blank = dict.fromkeys((*SHOPIFY_NAMES, *FACEBOOK_NAMES), " ")
    installation = Installation(tmp_path_factory.mktemp("closed"), {**bot_secrets(), **blank})
    with AppProcess.start(installation) as running:
        yield running


def test_a_closed_platform_names_what_is_missing(closed: AppProcess) -> None:
    """Each of its routes is 503 with the names to set; nothing is signed with nothing."""
    assert len(PLATFORM_ROUTES) >= 10
    with closed.client(token=None) as client:
        for method, path in PLATFORM_ROUTES:
            names = SHOPIFY_NAMES if path.startswith("/shopify") else FACEBOOK_NAMES
            others = {*SHOPIFY_NAMES, *FACEBOOK_NAMES} - {*names}
            answer = client.request(method, path, params={"shop": "a"}, content=b"{}")
            text = refused(answer, 503, "platform_unset")
            assert all(name in text for name in names), text
            assert not [name for name in others if name in text]
        assert client.get("/").json()["session"] is False
        assert client.get("/healthz").status_code == 200
    with closed.client() as client:
        assert client.get("/admin/backups").status_code == 200
        assert client.post("/admin/sync").status_code == 202


# --- settings that are refused ---------------------------------------------------------------


def load(bot: Bot) -> dict[str, str]:
    """The settings of a bot, which are good."""
    settings = dict(bot.installation.settings)
    assert read_settings(settings).platforms["shopify"]
    return settings


def fault_of(settings: dict[str, str]) -> str:
    """Why these settings stop the start."""
    with pytest.raises(SettingsError) as caught:
        read_settings(settings)
    return f"{caught.value.message}\n{caught.value.hint}"


def secrets_of(settings: dict[str, str]) -> list[str]:
    """The values that nobody may read."""
    return [value for name, value in settings.items() if name.endswith(("SECRET", "TOKEN", "KEYS"))]


@pytest.mark.parametrize("names", [SHOPIFY_NAMES, FACEBOOK_NAMES], ids=["shopify", "facebook"])
def test_half_a_platform_stops_the_start(lasting_bot: Bot, names: tuple[str, ...]) -> None:
    """Whichever of its settings is missing is named, and no secret is told."""
    settings = load(lasting_bot)
    for missing in names:
        given = {name: value for name, value in settings.items() if name != missing}
        text = fault_of(given)
        assert f"{missing}: is not set; set all of {', '.join(names)}, or none" in text
        assert not [value for value in secrets_of(settings) if value in text]


@pytest.mark.parametrize("name", ["SHOPIFY_API_SECRET", "FACEBOOK_APP_SECRET"])
def test_the_state_secret_is_no_platform_secret(lasting_bot: Bot, name: str) -> None:
    """Who learns the one could forge with the other; they have to differ."""
    settings = load(lasting_bot)
    text = fault_of({**settings, "STATE_TOKEN_SECRET": settings[name]})
    assert "STATE_TOKEN_SECRET: has the value of a platform's secret; set another one" in text
    assert settings[name] not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FACEBOOK_GRAPH_URL", "http://graph.facebook.com"),
        ("FACEBOOK_GRAPH_URL", "ftp://graph.facebook.com"),
        ("FACEBOOK_DIALOG_URL", "https://user:pass@www.facebook.com"),
        ("FACEBOOK_REDIRECT_URI", "http://bot.example/facebook/callback"),
        ("SHOPIFY_REDIRECT_URI", "bot.example/shopify/callback"),
        ("SHOPIFY_REDIRECT_URI", "https://bot.example/shopify/callback?next=x"),
        ("SHOPIFY_WEBHOOK_ADDRESS", "http://bot.example/shopify/webhook"),
        ("SHOPIFY_ADMIN_URL", "https://shops.example"),
        ("SHOPIFY_ADMIN_URL", "http://{shop}"),
        ("SHOPIFY_API_SECRET", "two words"),
        ("FACEBOOK_VERIFY_TOKEN", "grüße"),
        ("SHOPIFY_API_VERSION", "2026-10/../.."),
        ("FACEBOOK_GRAPH_VERSION", "v26.0/../.."),
        ("SHOPIFY_SCOPES", ","),
    ],
)
def test_an_address_that_could_leak_stops_the_start(
    lasting_bot: Bot, name: str, value: str
) -> None:
    """Tokens go to https or to this very host, and headers are made of printable ASCII."""
    settings = load(lasting_bot)
    text = fault_of({**settings, name: value})
    assert name in text
    assert not [secret for secret in secrets_of(settings) if secret in text]
    assert "pass@" not in text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
def test_no_page_loads_scripts_from_elsewhere(merchant: Merchant, path: str) -> None:
    """The framework's pages about the API, which do, are not served beside the cookies."""
    assert merchant.get(path).status_code == 404
