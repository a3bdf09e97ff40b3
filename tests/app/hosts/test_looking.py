"""Commands that only look, on a host whose shared database is away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.installation import Installation, installation_in, spaces
from tests.support.postgres_server import PostgresServer
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.slow
PASSWORD = "sesame-opens"


@dataclass
class Lonely:
    """A host that has made a set and failed to make another, and its database has crashed since."""

    installation: Installation
    set_id: str


@pytest.fixture
def lonely(tmp_path: Path, s3_server: S3Server, bucket: str) -> Iterator[Lonely]:
    server = PostgresServer.start()
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE bot")
        url = server.url("bot").replace("tests@", f"tests:{PASSWORD}@")
        settings = {**spaces(s3_server.settings(bucket)), "DATABASE_URL": url}
        installation = installation_in(tmp_path, **settings)
        made = installation.json("run")
        failing = installation.with_settings(SPACES_API_SECRET="a-wrong-secret")
        assert failing.cli("run").returncode == 1
        server.crash()
        yield Lonely(installation, made["set"]["id"])
    finally:
        server.stop()


def codes(document: dict[str, Any]) -> list[str]:
    """The codes of the problems of a status."""
    return [one["code"] for one in document["problems"]]


def test_status_and_doctor_say_what_they_know_while_the_database_is_away(lonely: Lonely) -> None:
    """The store, the sets and the schedule, with the database as a problem; exit code 3."""
    host = lonely.installation
    found = host.json("status", exit_code=3)
    assert codes(found)[0] == "database_unreachable"
    assert "records_unusable" not in codes(found)
    assert found["newest_restore_point"]["id"] == lonely.set_id
    assert found["schedule"]["retry_at"], "a backup is owed, whoever leads"
    shown = host.cli("status")
    assert shown.returncode == 3
    assert "does not answer" in shown.stdout
    assert lonely.set_id in shown.stdout
    assert "stored in" in shown.stdout

    examined = host.json("doctor", exit_code=3)
    problems = [one for one in examined["lines"] if one["level"] == "problem"]
    assert any(
        one["subject"] == "databases" and "[database_unreachable]" in one["message"]
        for one in problems
    ), problems
    fine = {one["subject"] for one in examined["lines"] if one["level"] == "ok"}
    assert {"store", "disk", "secrets", "schedule"} <= fine


@pytest.mark.parametrize("command", [["list"], ["runs"], ["report"], ["kit", "--json"]])
def test_what_does_not_need_the_database_is_shown(lonely: Lonely, command: list[str]) -> None:
    """Sets, runs, evidence and the kit: at a time when somebody may need them most."""
    done = lonely.installation.cli(*command)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [["run"], ["restore", "--in-place", "--yes"], ["drill"]])
def test_what_needs_it_is_refused(lonely: Lonely, command: list[str]) -> None:
    """Nothing that takes a lease or changes something goes on without it."""
    done = lonely.installation.cli(*command)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_the_kit_says_where_the_shared_database_is(lonely: Lonely) -> None:
    """Its line for `.env` and how to get the URL back: never the password."""
    host = lonely.installation
    assert host.cli("kit", "--to", "sheet.txt").returncode == 0
    sheet = (host.folder / "sheet.txt").read_text()
    assert "\n  DATABASE_URL=\n" in sheet
    assert "DATABASE_URL: the data of all hosts is in the PostgreSQL bot at 127.0.0.1:" in sheet
    assert PASSWORD not in sheet
    assert host.json("kit")["database"].startswith("bot at 127.0.0.1:")
