"""What a run says and returns when the data that it stored looks damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from backups.model import RunError
from backups.view import text
from tests.backups.conftest import LogLines
from tests.support.bench import Bench
from tests.support.installation import Installation, installation_in


@pytest.fixture
def emptied(tmp_path: Path) -> Installation:
    """A proven set, after which somebody deleted all tokens."""
    installation = installation_in(tmp_path).make_databases()
    assert installation.cli("run").returncode == 0
    with closing(sqlite3.connect(installation.tokens_path)) as connection, connection:
        connection.execute("DELETE FROM tokens")
    return installation


def test_a_run_of_damaged_data_ends_with_suspect_and_exit_3(emptied: Installation) -> None:
    """A person reads that it does not protect, why, and both commands; a script gets exit 3."""
    done = emptied.cli("run")
    made = emptied.json("list")["sets"][0]

    assert done.returncode == 3
    assert "proven" not in done.stdout
    assert "SUSPECT (the data looks damaged): tokens is empty, and had 3 rows" in done.stdout
    assert done.stdout.rstrip().endswith(f"./bot backups accept {made['id']}")
    assert "./bot backups restore --in-place --yes" in done.stdout


def test_the_document_of_such_a_run_is_whole(emptied: Installation) -> None:
    """With `--json` the run succeeded, its set is suspect, and the exit code is 3 as well."""
    document = emptied.json("run", exit_code=3)
    assert document["status"] == "succeeded"
    assert document["set"]["suspect"]


def test_a_run_before_its_first_stage_is_not_in_stage_none(bench: Bench) -> None:
    """The list of runs names no stage where there was none."""
    assert bench.run().status == "succeeded"
    (run,) = bench.service.list_runs(1)[0]
    fault = RunError("store_unreachable", "no answer", "")
    failed = replace(run, status="failed", stage=None, error=fault)
    assert "store_unreachable before its first stage: no answer" in text.runs([failed], more=False)


def test_a_start_without_a_database_is_logged(bench: Bench, log_lines: LogLines) -> None:
    """Beside older backups the warning names the source and the command that brings it back."""
    bench.made()
    for path in bench.tokens.parent.glob("tokens.db*"):
        path.unlink()
    bench.service.restore_on_empty.note_missing()
    assert "tokens was missing at this start" in log_lines.text(30)
    assert "./bot backups restore --only tokens --in-place --yes" in log_lines.text(30)
