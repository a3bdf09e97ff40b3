"""Routes and page of an app whose store refuses to say what it has; and answers to HEAD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pytest

from tests.support.app_process import AppProcess
from tests.support.contract import check_problem
from tests.support.installation import ADMIN_TOKEN, Installation, bot_secrets, spaces
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

BASE = "/admin/backups"
SAID = "SPACES_API_SECRET does not match SPACES_API_KEY (SignatureDoesNotMatch"


@pytest.fixture(scope="module")
def app(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app with its databases, whose secret of the bucket is wrong."""
    settings = replace(s3_server.settings_of_new_bucket(), api_secret="another")
    folder = tmp_path_factory.mktemp("refused")
    installation = Installation(folder, {**bot_secrets(), **spaces(settings)}).make_databases()
    with AppProcess.start(installation) as app:
        yield app


@pytest.fixture
def http(app: AppProcess) -> Iterator[httpx2.Client]:
    with app.client() as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [f"{BASE}/sets", f"{BASE}/sets/20260101T000000Z", f"{BASE}/sets/latest/restore"],
)
def test_a_route_gives_the_refusal_of_the_store(http: httpx2.Client, path: str) -> None:
    """An app that knows no point answers 502 with the store's refusal, not an empty list."""
    answer = http.get(path)

    assert answer.status_code == 502
    problem = check_problem(answer.json())
    assert problem["code"] == "store_wrong_secret"
    assert SAID in problem["detail"]


def test_the_page_gives_the_refusal_of_the_store(app: AppProcess) -> None:
    """The list of the page and its overview say why they are empty."""
    with app.client(token=None) as client:
        client.post("/admin/login", data={"token": ADMIN_TOKEN, "then": "/admin/"})

        def shown(path: str) -> bool:
            return SAID in client.get(path).text

        eventually(lambda: shown("/admin/sets"), "the list says why")
        eventually(lambda: shown("/admin/"), "the overview says why")
        sets = client.get("/admin/sets").text
    assert "There are none yet" not in sets
    assert "This host knows none." in sets


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_head_answers_as_get_does(http: httpx2.Client, path: str) -> None:
    """A supervisor that asks with HEAD gets the status of a GET, and no body."""
    answer = http.head(path)

    assert answer.status_code == http.get(path).status_code == 200
    assert answer.content == b""
