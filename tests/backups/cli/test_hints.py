"""What a command says when it fails: what a person can do, and no promise for somebody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.app_process import free_port
from tests.support.installation import Installation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", ["run", "drill", "verify", "list"])
def test_no_command_promises_that_the_app_will_retry(tmp_path: Path, command: str) -> None:
    """Nobody answers: the hint names what to check, and nobody tries again but the person."""
    store = {
        "SPACES_API_KEY": "key",
        "SPACES_API_SECRET": "secret",
        "SPACES_REGION": "us-east-1",
        "SPACES_BUCKET": "my-bucket",
        "SPACES_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }
    done = Installation(tmp_path, store).make_databases().cli(command)
    assert ": no connection\n" in done.stderr
    assert "Check SPACES_ENDPOINT and this host's network." in done.stderr
    assert "retry" not in done.stderr
