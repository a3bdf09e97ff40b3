"""What the interfaces log: the run in every line of a run, and one format for all lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.app_process import AppProcess
from tests.support.installation import REPOSITORY, Installation, bot_secrets
from tests.support.waiting import eventually

BASE = "/admin/backups"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation with both databases, the embedded store, and logs as JSON."""
    return Installation(tmp_path, {**bot_secrets(), "LOG_FORMAT": "json"}).make_databases()


def documents_in(text: str) -> list[dict[str, Any]]:
    """The lines of a log, each of which must be one JSON object in our form."""
    documents = [json.loads(line) for line in text.splitlines()]
    for document in documents:
        assert {"time", "level", "logger", "message"} <= set(document), document
    return documents


def test_every_line_of_a_run_names_it(installation: Installation) -> None:
    """All that a run logs, whichever part does, has its id: as JSON, for a person, and in files.

    A file in the way of the log files makes a part outside `backups` speak.
    """
    blocked = installation.folder / "blocked"
    blocked.touch()
    logs = str(installation.folder / "logs")
    for settings in ({"BACKUP_LOG_DIR": str(blocked / "logs")}, {"BACKUP_LOG_DIR": logs}):
        done = installation.with_settings(**settings).cli("run", "--json")
        run_id = json.loads(done.stdout)["id"]
        lines = documents_in(done.stderr)
        assert {line.get("run") for line in lines} == {run_id}
        names = {line["logger"] for line in lines}
        assert {"backups.run", "backups.tokens", "backups.sessions"} <= names
        assert ("shared.logs" in names) == (settings["BACKUP_LOG_DIR"] != logs)

    human = installation.with_settings(LOG_FORMAT="human", BACKUP_LOG_DIR=logs).cli("run", "--json")
    run = f" run={json.loads(human.stdout)['id']}"
    assert len(human.stderr.splitlines()) >= 8
    assert all(run in line for line in human.stderr.splitlines())
    for name in ("tokens", "sessions"):
        written = (Path(logs) / f"backup_{name}.log").read_text().splitlines()
        assert len(written) >= 10
        ours = [line for line in written if run in line]
        assert len(ours) == len([line for line in written if f"run={run_id}" in line])
        assert len(ours) * 2 == len(written)


def test_what_follows_a_run_names_it_too(installation: Installation) -> None:
    """A heartbeat that nobody hears after a run is a line of that run."""
    refused = installation.with_settings(BACKUP_HEARTBEAT_URL="http://127.0.0.1:1/")
    done = refused.cli("run", "--json")
    (line,) = [
        one for one in documents_in(done.stderr) if one["logger"] == "backups.alerts.notifier"
    ]
    assert line["run"] == json.loads(done.stdout)["id"]


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (None, None),
        (2, ("--log-config", str(REPOSITORY / "deploy" / "uvicorn-json-logs.json"))),
    ],
    ids=["python app.py", "uvicorn app:app"],
)
def test_all_lines_of_the_app_are_json(
    installation: Installation, workers: int | None, options: tuple[str, ...] | None
) -> None:
    """From its first line to its last the app logs JSON, the server and its access log included."""
    # The parent of uvicorn's workers leaves its socket to the end of the process.
    quiet = installation.with_settings(PYTHONWARNINGS="error,ignore::ResourceWarning")
    with AppProcess.start(
        quiet, workers=workers, as_script=options is None, options=options or ()
    ) as app:
        with app.client() as client:
            eventually(lambda: client.get(BASE).json()["last_success"], "the first backup")
            run_id = client.post(f"{BASE}/run?wait=true").json()["id"]
        app.terminate()
        lines = documents_in(app.output())
    messages = [line["message"] for line in lines if line["logger"].startswith("uvicorn")]
    assert any('"GET /healthz HTTP/1.1" 200' in message for message in messages)
    assert any(message.startswith("Started server process") for message in messages)
    assert any(message.startswith("Finished server process") for message in messages)
    told = [line for line in lines if line.get("run") == run_id]
    assert {"backups.run", "backups.tokens", "backups.sessions"} <= {one["logger"] for one in told}
    assert all(line.get("run") for line in lines if line["logger"] == "backups.run")
