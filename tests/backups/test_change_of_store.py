"""After a change of the store's settings, only what the new store has counts."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from backups.decisions.health import Status
from backups.model import BackupSet, Finding
from backups.wiring import open_service
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.installation import Installation, installation_in, settings_of
from tests.support.records import INSTANT

# Nobody is asked: the port is never opened.
SPACES = {
    "SPACES_API_KEY": "key",
    "SPACES_API_SECRET": "secret",
    "SPACES_REGION": "nyc3",
    "SPACES_BUCKET": "a-mistake",
    "SPACES_ENDPOINT": "http://127.0.0.1:9",
}


@pytest.fixture
def used(tmp_path: Path) -> Installation:
    """An installation that made a set in the local folder."""
    with open_bench(tmp_path, settings={}, clock=FixedClock(INSTANT)) as bench:
        bench.write("genset")
        made_by(bench)
    return installation_in(tmp_path)


def made_by(bench: Bench) -> BackupSet:
    """A scheduled set."""
    return bench.made("scheduled")


@pytest.mark.parametrize(
    "settings", [SPACES, {"BACKUP_PREFIX": "elsewhere/"}], ids=["spaces", "prefix"]
)
def test_the_sets_of_the_old_store_protect_nothing_in_the_new_one(
    used: Installation, settings: dict[str, str]
) -> None:
    """Nothing is known, so it is a problem, and a run is owed at once."""
    changed = settings_of(used.with_settings(BACKUP_SCHEDULE="0 1 * * *", **settings))
    with open_service(changed, FixedClock(INSTANT)) as service:
        status = service.status()

        assert not status.health.healthy
        assert "no_restore_point" in {one.code for one in status.health.problems}
        assert (status.newest_restore_point, status.restore_points) == (None, 0)
        assert status.last_contact_at is None
        assert status.offsite == ("SPACES_BUCKET" in settings)
        assert service.own_sets.is_owed("catch-up")


def test_the_local_sets_of_before_a_move_are_named_until_they_are_gone(used: Installation) -> None:
    """Nothing lists or prunes them any more: status says where they are, and how they go."""
    folder = Path(used.settings["BACKUP_LOCAL_STORE"]) / "backups"
    with open_service(settings_of(used), FixedClock(INSTANT)) as service:
        assert _warning(service.status(), "local_sets_left") is None
    moved = settings_of(used.with_settings(**SPACES))
    with open_service(moved, FixedClock(INSTANT)) as service:
        found = _warning(service.status(), "local_sets_left")
        assert found is not None
        assert found.message.startswith(f"1 set is still in {folder}, from before the move")
        _, removal = found.hint.rsplit(": ", 1)
        assert removal == f"rm -r {folder}"
        subprocess.run(shlex.split(removal), check=True, timeout=30)
        assert _warning(service.status(), "local_sets_left") is None


def _warning(status: Status, code: str) -> Finding | None:
    return next((one for one in status.health.warnings if one.code == code), None)


def test_a_command_with_another_prefix_leaves_the_running_app_its_sets(used: Installation) -> None:
    """Two processes of one host, with other settings each, know their own store."""
    with open_service(settings_of(used), FixedClock(INSTANT)) as app:
        before = app.own_sets.required_latest()
        other = settings_of(used.with_settings(BACKUP_PREFIX="elsewhere/"))
        with open_service(other, FixedClock(INSTANT)) as command:
            assert command.own_sets.refresh() is None
            assert command.status().restore_points == 0
        assert app.own_sets.required_latest() == before
        assert app.status().restore_points == 1


def test_the_newest_set_was_seen_when_the_store_was_listed_with_all_of_it(tmp_path: Path) -> None:
    """Made or proven by ourselves, or seen with its manifest and all its objects; else not."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, settings={}, clock=clock) as bench:
        bench.write("genset")
        made = made_by(bench)
        seen = bench.service.catalogue.seen_at
        assert seen(made.id) == INSTANT
        clock.advance(hours=1)
        assert bench.service.own_sets.refresh() is None
        assert seen(made.id) == clock.now()
        whole = clock.advance(hours=1)
        assert bench.verify(made.id).status == "succeeded"
        assert seen(made.id) == whole
        clock.advance(hours=1)
        bench.store.delete(made.objects[0].key)
        assert bench.service.own_sets.refresh() is None
        assert seen(made.id) == whole
        clock.advance(hours=-4)
        assert seen(made.id) is None  # it lies in the future


def test_an_object_of_another_size_is_not_the_one_that_was_stored(tmp_path: Path) -> None:
    """What is under the key of an object may be something else."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, settings={}, clock=clock) as bench:
        bench.write("genset")
        made = made_by(bench)
        bench.replace_object(made.objects[0].key, b"something else")
        clock.advance(hours=1)
        assert bench.service.own_sets.refresh() is None
        assert bench.service.catalogue.seen_at(made.id) == INSTANT
