"""`Installation`: one installation of the bot in a folder of its own, and its command line."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backups.host.directory import BackupDirectory
from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.settings.load import Settings, load_settings
from shared.store.spaces_access import SpacesSettings
from shopify_integration.shops import shopify_access_token_key
from tests.support import marks
from tests.support.warm_python import run_warm

REPOSITORY = Path(__file__).resolve().parents[2]
ADMIN_TOKEN = "admin-token-of-the-tests-0123456789"
STATE_TOKEN_SECRET = "state-token-secret-of-the-tests-0123"
TOKEN_ENCRYPTION_KEY = marks.TOKEN_ENCRYPTION_KEY


def bot_secrets() -> dict[str, str]:
    """The settings that only the app needs."""
    return {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "STATE_TOKEN_SECRET": STATE_TOKEN_SECRET,
        "TOKEN_ENCRYPTION_KEYS": TOKEN_ENCRYPTION_KEY,
    }


def spaces(settings: SpacesSettings) -> dict[str, str]:
    """The five settings of a bucket."""
    return {
        "SPACES_API_KEY": settings.api_key,
        "SPACES_API_SECRET": settings.api_secret,
        "SPACES_REGION": settings.region,
        "SPACES_BUCKET": settings.bucket,
        "SPACES_ENDPOINT": settings.endpoint,
    }


def _in_twelve_hours() -> str:
    due = datetime.now(UTC) + timedelta(hours=12)
    return f"{due.minute} {due.hour} * * *"


# A daily schedule whose due instants are about twelve hours away on either side of the tests.
# Named once: an app that is started again in the next minute must find the schedule it had.
QUIET_SCHEDULE = _in_twelve_hours()


_KEYS = "TOKEN_ENCRYPTION_KEYS"


def secret_of(number: int) -> str:
    """The plain text of the token with this number in `Installation.make_databases`."""
    return f"shpat_plain-text-of-token-{number:06d}"


@dataclass(frozen=True)
class Installation:
    """The settings and files of one installation; nothing of this process's environment."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see: where programs are, the settings, and no more."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "error",
            "BACKUP_SCHEDULE": QUIET_SCHEDULE,
            # Most tests start no app, which would be a problem; `AppProcess` says `app`.
            "BACKUP_RUN_BY": "cron",
            # What writes to the store makes marks; a `.env` has keys of its own.
            **({} if (self.folder / ".env").exists() else {_KEYS: TOKEN_ENCRYPTION_KEY}),
            **self.settings,
        }

    def with_settings(self, **more: str) -> Installation:
        """The same folder under other settings."""
        return Installation(self.folder, {**self.settings, **more})

    @property
    def tokens_path(self) -> Path:
        """The live `tokens.db`."""
        return self.folder / "data" / "tokens.db"

    @property
    def sessions_path(self) -> Path:
        """The live `sessions.db`."""
        return self.folder / "data" / "sessions.db"

    @property
    def backup_dir(self) -> BackupDirectory:
        """The `BACKUP_DIR`, to hold its leases."""
        return BackupDirectory(self.folder / "data" / "backups")

    def stored(self, key: str) -> Path:
        """The file of an object in the embedded store."""
        return self.folder / "data" / "spaces" / key

    def make_databases(self, tokens: int = 3, sessions: int = 2) -> Installation:
        """Write both databases with the bot's own code; the installation itself."""
        cipher = TokenCipher((TOKEN_ENCRYPTION_KEY,))
        with closing(TokenStorage(self.tokens_path, cipher)) as storage:
            for number in range(tokens):
                storage.put(shopify_access_token_key(f"shop-{number}"), secret_of(number))
        with closing(SessionStorage(self.sessions_path, SystemClock())) as session_storage:
            for number in range(sessions):
                session_storage.create(f"user-{number}")
        return self

    def grow_tokens(self, megabytes: int) -> None:
        """Make `tokens.db` larger by random rows, which are quicker than real ones."""
        with closing(sqlite3.connect(self.tokens_path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO tokens VALUES (?, ?, 'token')",
                ((f"FILLER_{number}", os.urandom(32768).hex()) for number in range(megabytes * 16)),
            )
            connection.execute("COMMIT")

    @contextmanager
    def locked_tokens(self) -> Iterator[None]:
        """Hold the write lock of `tokens.db`: a run waits for it in its snapshot stage."""
        with closing(sqlite3.connect(self.tokens_path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    def command(self, *arguments: str) -> list[str]:
        """The command line of `./bot backups`."""
        return [sys.executable, "-m", "backups", *arguments]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `./bot backups` to its end."""
        return run_warm(self.command(*arguments), cwd=self.folder, env=self.environment)

    def json(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        """The document that a command with `--json` prints; its exit code must be as said."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == exit_code, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document


def installation_in(folder: Path, **settings: str) -> Installation:
    """An installation whose paths are absolute, so that this process can open it as well."""
    data = folder / "data"
    return Installation(
        folder,
        {
            **bot_secrets(),
            "TOKEN_DB_PATH": str(data / "tokens.db"),
            "SESSION_DB_PATH": str(data / "sessions.db"),
            "INBOX_DB_PATH": str(data / "inbox.db"),
            "BACKUP_DIR": str(data / "backups"),
            "BACKUP_LOCAL_STORE": str(data / "spaces"),
            **settings,
        },
    )


def settings_of(installation: Installation) -> Settings:
    """The installation's settings, as its own processes would read them."""
    return load_settings(installation.environment, for_app=True)
