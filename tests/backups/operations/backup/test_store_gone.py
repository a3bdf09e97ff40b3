"""A local store whose folder is gone: not an empty store, but one that cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.service import BackupService
from backups.wiring import open_service
from shared.errors import StoreUnreachable
from tests.support.installation import Installation, bot_secrets, settings_of


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """An installation with both databases and the embedded store, not used yet."""
    monkeypatch.chdir(tmp_path)
    return Installation(tmp_path, bot_secrets()).make_databases()


@pytest.fixture
def service(installation: Installation) -> Iterator[BackupService]:
    """Its service."""
    with open_service(settings_of(installation)) as service:
        yield service


def ids(service: BackupService) -> list[str]:
    """The restore points that are known."""
    return [found.id for found in service.list_sets(9)[0]]


def test_a_folder_that_is_gone_is_named_and_nothing_forgotten(
    installation: Installation, service: BackupService
) -> None:
    """As when its disk is not mounted: the sets stay known, and no set goes anywhere else."""
    made = service.backup.begin().execute()
    store = installation.stored("")
    away = store.rename(store.with_name("away"))

    error = service.own_sets.refresh()
    run = service.backup.begin().execute()

    assert isinstance(error, StoreUnreachable)
    assert "BACKUP_LOCAL_STORE" in error.hint
    assert run.error is not None
    assert (run.status, run.error.code) == ("failed", "store_unreachable")
    assert ids(service) == [made.set_id]
    assert not store.exists()
    away.rename(store)
    assert service.backup.begin().execute().status == "succeeded"
    assert len(ids(service)) == 2


def test_a_folder_that_was_made_anew_is_begun_anew(
    installation: Installation, service: BackupService
) -> None:
    """An empty folder says that the old sets are gone for good: they are no longer listed."""
    service.backup.begin().execute()
    store = installation.stored("")
    store.rename(store.with_name("away"))
    store.mkdir()

    assert service.own_sets.refresh() is None
    assert ids(service) == []
    assert service.backup.begin().execute().status == "succeeded"


def test_a_new_installation_has_no_folder_yet(service: BackupService) -> None:
    """Before the first run there is nothing to miss."""
    assert service.own_sets.refresh() is None
    assert service.backup.begin().execute().status == "succeeded"
