"""`report` as a process: its page, its document, its exit codes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.backups.test_status import nothing_written
from tests.support.contract import check_problem, check_times
from tests.support.installation import (
    ADMIN_TOKEN,
    STATE_TOKEN_SECRET,
    TOKEN_ENCRYPTION_KEY,
    Installation,
    bot_secrets,
    secret_of,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation that has made a set, and whose next run failed."""
    made = Installation(tmp_path, bot_secrets()).make_databases()
    assert made.cli("run").returncode == 0
    made.tokens_path.rename(made.folder / "away")
    assert made.cli("run").returncode == 1
    return made.with_settings(
        BACKUP_NOTIFY_URLS="json://127.0.0.1:9/notify-secret",
        BACKUP_HEARTBEAT_URL="http://127.0.0.1:9/heartbeat-secret",
        PYTHONWARNINGS="error,ignore:'imghdr' is deprecated",
    )


def test_the_report_is_evidence_and_no_check(installation: Installation) -> None:
    """It exits with 0 while `status` is unhealthy, and tells a person and a program the same."""
    assert installation.cli("status").returncode == 3
    text, document = installation.cli("report"), installation.json("report", "--since", "12h")
    assert text.returncode == 0, text.stderr
    check_times(document)

    assert document["rpo"]["points"] == 1
    assert document["runs"]["failed"][0]["error"]["code"] == "database_missing"
    assert f"installation {document['installation']} on {document['host']}" in text.stdout
    assert f"Records begin at {document['period']['records_begin_at']}." in text.stdout
    assert "1 in the period" in text.stdout
    assert "failed in snapshot: database_missing: " in text.stdout
    assert len(text.stdout.splitlines()) < 60  # a page


def test_the_report_has_no_secret_and_writes_nothing(installation: Installation) -> None:
    """No token, key or address of a receiver is in it, and no record changes by it."""
    with nothing_written(installation.folder / "data" / "backups" / "runs.db"):
        told = [installation.cli("report"), installation.cli("report", "--json")]
    secrets = (ADMIN_TOKEN, STATE_TOKEN_SECRET, TOKEN_ENCRYPTION_KEY, secret_of(0))
    for done in told:
        assert done.returncode == 0
        for secret in (*secrets, "notify-secret", "heartbeat-secret"):
            assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize("since", ["yesterday", "0d", "9999-01-01"])
def test_a_period_that_is_none_is_a_usage_error(installation: Installation, since: str) -> None:
    """It is named, with the forms that there are, and the exit code is 2."""
    done = installation.cli("report", "--since", since)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--since '{since}'" in done.stderr
    assert "90d" in done.stderr
    problem = check_problem(installation.json("report", "--since", since, exit_code=2))
    assert problem["code"] == "period_invalid"


def test_records_that_cannot_be_read_are_a_failure(installation: Installation) -> None:
    """A report that could not be made exits with 1 and says why."""
    records = installation.folder / "data" / "backups" / "runs.db"
    with closing(sqlite3.connect(records)) as connection:
        connection.execute("PRAGMA user_version = 99")  # a later version of the program wrote it
    done = installation.cli("report")
    assert (done.returncode, done.stdout) == (1, "")
    assert "runs.db" in done.stderr
    assert "Traceback" not in done.stderr
