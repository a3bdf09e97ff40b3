"""Tests of the way from the command line to the store: how many of our functions it crosses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.installation import Installation, bot_secrets

MOST = 9


def test_few_functions_stand_between_the_command_and_the_store(tmp_path: Path) -> None:
    """When `run` puts a snapshot, at most nine functions of ours have been entered."""
    installation = Installation(tmp_path, bot_secrets()).make_databases()

    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.frames_process"],
        cwd=tmp_path,
        env=installation.environment,
        capture_output=True,
        text=True,
        check=True,
    )

    stack = json.loads(ended.stdout.splitlines()[-1])
    assert stack[-1] == "backups.cli.main.main"
    assert stack[0].startswith("backups.sets.puts.")
    assert len(stack) <= MOST, stack
