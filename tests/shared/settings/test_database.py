"""`DATABASE_URL`: what it needs beside it, and what cannot be beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from backups.host.directory import BackupDirectory
from backups.sources.engine.joining import open_live
from shared.clock import SystemClock
from shared.errors import SettingsError
from shared.settings.load import load_settings
from tests.support.installation import bot_secrets

URL = "postgresql://bot:sesame@127.0.0.1:5432/bot"
BUCKET = {
    "SPACES_API_KEY": "key",
    "SPACES_API_SECRET": "secret",
    "SPACES_REGION": "fra1",
    "SPACES_BUCKET": "bucket",
    "SPACES_ENDPOINT": "https://fra1.digitaloceanspaces.com",
}


def test_a_shared_database_is_read_and_not_shown() -> None:
    """Its password is in no text that the settings make."""
    settings = load_settings({**bot_secrets(), **BUCKET, "DATABASE_URL": URL})
    assert settings.database is not None
    assert settings.database.url == URL
    assert "sesame" not in repr(settings)
    assert load_settings({**bot_secrets(), "DATABASE_URL": ""}).database is None


def test_a_host_among_several_serves_for_a_while_when_it_is_stopped() -> None:
    """Alone it has nobody to hand over to; both can be set."""
    shared = {**bot_secrets(), **BUCKET, "DATABASE_URL": URL}
    assert load_settings(shared).shutdown_delay == 5
    assert load_settings(bot_secrets()).shutdown_delay == 0
    assert load_settings({**shared, "SHUTDOWN_DELAY": "0"}).shutdown_delay == 0
    with pytest.raises(SettingsError, match="SHUTDOWN_DELAY"):
        load_settings({**shared, "SHUTDOWN_DELAY": "61"})


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({**BUCKET, "DATABASE_URL": "mysql://bot:sesame@127.0.0.1/bot"}, "begins with mysql:"),
        ({**BUCKET, "DATABASE_URL": "postgresql://b:sesame@db.example.com/b"}, "sslmode"),
        ({"DATABASE_URL": URL}, "needs a bucket"),
        ({**BUCKET, "DATABASE_URL": URL, "BACKUP_EXTRA_SOURCES": "more=/x.db"}, "BACKUP_EXTRA"),
    ],
)
def test_what_several_hosts_cannot_have_is_refused_by_name(more: dict[str, str], why: str) -> None:
    """Each with the setting, and without the password."""
    with pytest.raises(SettingsError) as refused:
        load_settings({**bot_secrets(), **more})
    assert why in str(refused.value)
    assert "sesame" not in str(refused.value)


def test_a_missing_driver_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has installed `requirements.txt` alone learns what to install."""
    settings = load_settings({**bot_secrets(), **BUCKET, "DATABASE_URL": URL})
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match="requirements-postgres"):
        open_live(settings, BackupDirectory(tmp_path / "backups"), SystemClock()).__enter__()
