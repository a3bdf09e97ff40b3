"""The doctor examines by itself once the settings were changed, and keeps no secret for it."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from cryptography.fernet import Fernet

from backups.doctor.after_change import CheckAfterChange, changed_since, digests_of, values_of
from backups.vocabulary.examination import SettingsCheck
from backups.wiring import open_service
from shared.databases.cipher import key_fingerprint
from tests.support.app_process import AppProcess
from tests.support.installation import (
    ADMIN_TOKEN,
    TOKEN_ENCRYPTION_KEY,
    Installation,
    installation_in,
    settings_of,
    spaces,
)
from tests.support.records import INSTANT
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

OTHER_KEY = Fernet.generate_key().decode()
BUCKET = "no-such-bucket-of-the-tests"
PRODUCED = "everything was checked after"


def remembered(installation: Installation) -> str:
    """The stored document; empty before there is one."""
    path = installation.folder / "data" / "backups" / "runs.db"
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT value FROM facts WHERE name = 'settings_check'")
        return "".join(row[0] for row in rows)


def checks_page(app: AppProcess) -> str:
    with app.client(token=None) as client:
        client.post("/admin/login", data={"token": ADMIN_TOKEN})
        answer: httpx2.Response = client.get("/admin/doctor")
        return answer.text


def test_a_wrong_bucket_is_found_by_the_app_itself(s3_server: S3Server, tmp_path: Path) -> None:
    """After a start with another bucket the page has why, when and what; the log has it once."""
    right = spaces(s3_server.settings_of_new_bucket())
    before = installation_in(tmp_path, **right).make_databases()
    with AppProcess.start(before) as app:
        eventually(lambda: remembered(before), "the settings are remembered")
        assert 'id="changed"' not in checks_page(app)
        assert PRODUCED not in app.output()

    wrong = before.with_settings(SPACES_BUCKET=BUCKET)
    with AppProcess.start(wrong) as app:
        eventually(lambda: PRODUCED in app.output(), "the app has checked", seconds=90)
        shown = checks_page(app)
        assert "by itself on" in shown
        assert "after SPACES_BUCKET changed" in shown
        failed = [one for one in app.output().splitlines() if "changed: store:" in one]
        assert len(failed) == 1
        assert BUCKET in failed[0]
        assert "SPACES_BUCKET" in failed[0].partition("changed: store:")[2]

    with AppProcess.start(wrong) as app:
        eventually(lambda: "this process schedules" in app.output(), "it leads")
        assert "after SPACES_BUCKET changed" in checks_page(app)
    assert PRODUCED not in app.output(), "nothing was changed"


def test_no_value_can_be_read_or_tried(tmp_path: Path) -> None:
    """What is remembered has neither a value nor a hash that anybody can compute."""
    installation = installation_in(tmp_path, ADMIN_TOKEN="hunter2-hunter2-").make_databases()
    settings = settings_of(installation)
    with open_service(settings) as service:
        CheckAfterChange(settings, service).work()
    text = remembered(installation)
    assert "ADMIN_TOKEN" in text
    for name, value in values_of(settings).items():
        assert len(value) < 6 or value not in text
        for form in (value, f"{name}={value}", f"{name}\0{value}"):
            assert hashlib.sha256(form.encode()).hexdigest() not in text


def test_one_look_for_each_change(tmp_path: Path) -> None:
    """The first start only remembers; the same settings again do nothing; others are examined."""
    installation = installation_in(tmp_path).make_databases()

    def start(**more: str) -> SettingsCheck:
        settings = settings_of(installation.with_settings(**more))
        with open_service(settings) as service:
            check = CheckAfterChange(settings, service)
            check.work()
            found = service.facts.checks.last()
            check.work()
            assert service.facts.checks.last() == found
        assert found is not None
        return found

    first = start()
    assert (first.changed, first.lines) == ((), ())
    assert start() == first
    second = start(BACKUP_SCHEDULE="5 4 * * *", BACKUP_COMPRESSION="zstd")
    assert second.changed == ("BACKUP_SCHEDULE", "BACKUP_COMPRESSION")
    assert second.reason == "after BACKUP_SCHEDULE, BACKUP_COMPRESSION changed"
    assert {"store", "databases", "notify"} <= {line.subject for line in second.lines}
    assert second.light == "red"
    assert start(BACKUP_SCHEDULE="5 4 * * *", BACKUP_COMPRESSION="zstd") == second


@pytest.mark.parametrize(
    ("keys", "changed"),
    [
        ([TOKEN_ENCRYPTION_KEY], ("B",)),
        ([OTHER_KEY, TOKEN_ENCRYPTION_KEY], ("B",)),
        ([OTHER_KEY], ("TOKEN_ENCRYPTION_KEYS",)),
    ],
    ids=["the same key", "rotated", "lost"],
)
def test_settings_are_compared_with_the_key_of_then(
    keys: list[str], changed: tuple[str, ...]
) -> None:
    """After a rotation the old key still compares; a name that is new to it is no change."""
    digests = digests_of(TOKEN_ENCRYPTION_KEY, {"A": "1", "B": "2"})
    before = SettingsCheck(INSTANT, key_fingerprint(TOKEN_ENCRYPTION_KEY), digests)
    assert changed_since(before, keys, {"A": "1", "B": "3", "NEW": "4"}) == changed
