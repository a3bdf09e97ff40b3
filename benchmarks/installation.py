"""An installation of the bot with a large `tokens.db` and a real S3 server, in its own folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from benchmarks.databases import add_sessions, grow_tokens, make_databases
from tests.support.s3_server import S3Server

SESSIONS = 2_000
BUCKET = "benchmark"
REPOSITORY = Path(__file__).resolve().parents[1]


@contextmanager
def installed(*, megabytes: int) -> Iterator[Mapping[str, str]]:
    """The settings of such an installation; everything of it is gone after the block."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        S3Server.start() as server,
    ):
        folder = Path(name)
        tokens_path, sessions_path = make_databases(folder)
        grow_tokens(tokens_path, megabytes)
        add_sessions(sessions_path, SESSIONS)
        server.create_bucket(BUCKET)
        spaces = server.settings(BUCKET)
        far = datetime.now(UTC) + timedelta(hours=12)
        yield {
            "TOKEN_DB_PATH": str(tokens_path),
            "SESSION_DB_PATH": str(sessions_path),
            "BACKUP_DIR": str(folder / "backups"),
            "BACKUP_SCHEDULE": f"{far.minute} {far.hour} * * *",
            "BACKUP_LOCAL_COPIES": "0",
            "SPACES_API_KEY": spaces.api_key,
            "SPACES_API_SECRET": spaces.api_secret,
            "SPACES_REGION": spaces.region,
            "SPACES_BUCKET": spaces.bucket,
            "SPACES_ENDPOINT": spaces.endpoint,
            "STATE_TOKEN_SECRET": "a-secret-of-the-benchmarks",
            "TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        }


def in_a_fresh_process(module: str, settings: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run a module with these settings as its environment; the JSON document that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"python -m {module} ended with {done.returncode}:\n{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document
