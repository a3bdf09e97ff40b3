"""The report over HTTP: the route for programs, and the download of the page."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.support.app_process import AppProcess
from tests.support.contract import check_problem, check_times
from tests.support.history import SESSIONS, TOKENS, give_history, quiet_settings
from tests.support.installation import ADMIN_TOKEN, Installation, bot_secrets

pytestmark = pytest.mark.slow

ROUTE = "/admin/backups/report"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app with a past of forty days: one without a run, and one whose run failed."""
    settings = {**bot_secrets(), **quiet_settings()}
    folder = tmp_path_factory.mktemp("report")
    installation = Installation(folder, settings).make_databases(TOKENS, SESSIONS)
    give_history(installation, days=40, missed={10}, failed={20})
    with AppProcess.start(installation) as app:
        yield app
    output = app.output()
    assert "Traceback" not in output, output


@pytest.fixture
def http(app: AppProcess) -> Iterator[httpx2.Client]:
    """A client that has the admin token."""
    with app.client() as client:
        yield client


def test_the_route(http: httpx2.Client) -> None:
    """It answers with the document of the period that is asked for, 90 days if none is."""
    quarter, month = http.get(ROUTE), http.get(ROUTE, params={"since": "2w"})
    assert (quarter.status_code, month.status_code) == (200, 200)
    document = quarter.json()
    check_times(document)
    assert document["period"]["from"] == document["period"]["records_begin_at"]
    assert [gap["failures"] for gap in document["rpo"]["late"]] == [
        [{"code": "store_unreachable", "count": 1}],
        [],
    ]
    assert len(month.json()["rpo"]["late"]) == 1


def test_who_may_not_and_what_is_no_period(app: AppProcess, http: httpx2.Client) -> None:
    """Without the token 401, with it 422 for a time that is none."""
    with app.client(token=None) as stranger:
        assert stranger.get(ROUTE).status_code == 401
        assert stranger.get("/admin/report").status_code == 401
    refused = http.get(ROUTE, params={"since": "soon"})
    assert refused.status_code == 422
    assert check_problem(refused.json())["code"] == "period_invalid"


def test_the_download_of_the_page(app: AppProcess) -> None:
    """The overview leads to the report as a file, for a person and for a program."""
    with app.client(token=None) as client:
        client.post("/admin/login", data={"token": ADMIN_TOKEN})
        overview = client.get("/admin/").text
        text, document = client.get("/admin/report"), client.get("/admin/report.json")
    for address in ("/admin/report", "/admin/report.json"):
        assert f'href="{address}"' in overview
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.text.startswith("Evidence of the backups of installation ")
    assert document.json()["rpo"]["points"] == 38
    for answer, kind in ((text, "txt"), (document, "json")):
        name = f"backup-report-{document.json()['produced_at'][:10]}.{kind}"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
