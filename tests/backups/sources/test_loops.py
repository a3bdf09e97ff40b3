"""A configured path whose links lead in a circle: named, in place of a fault of this program."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups.errors import LinkDangling, RestoreBlocked
from backups.sources.room import to_install
from tests.support.bench import Bench
from tests.support.installation import bot_secrets, installation_in


def make_loop(path: Path) -> Path:
    """A link at `path` to another one, which leads back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    other = path.with_name("loop")
    path.symlink_to(other)
    other.symlink_to(path)
    return path


def test_a_backup_names_the_loop_and_stores_the_others(bench: Bench) -> None:
    """A run fails by that source, and the other one is stored."""
    make_loop(bench.tokens)

    run = bench.run()

    assert run.error is not None
    assert run.error.code == "link_dangling"
    assert f"{bench.tokens} is a link that leads back to itself" in run.error.message
    assert "stored as the incomplete set" in run.error.message


def test_a_restore_and_status_name_the_loop(bench: Bench) -> None:
    """Plan, restore, room and status all go on, and say what it is."""
    bench.made()
    make_loop(bench.tokens)

    plan = bench.service.restore.plan()
    problems = {one.code: one for one in bench.service.status().health.problems}

    with pytest.raises(RestoreBlocked, match="leads back to itself"):
        bench.service.restore.begin(plan)
    with pytest.raises(LinkDangling, match="leads back to itself"):
        bench.service.restore_on_empty.restore_missing()
    assert "leads back to itself" in problems["source_unreadable"].message
    assert to_install(bench.sources[0], 4096).bytes > 4096


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["TOKEN_DB_PATH", "BACKUP_DIR", "BACKUP_LOCAL_STORE"])
@pytest.mark.parametrize("command", ["run", "status", "restore", "list", "doctor"])
def test_a_loop_in_a_setting_is_no_fault_of_this_program(
    tmp_path: Path, setting: str, command: str
) -> None:
    """Each path of the settings may be one: commands end with a message, and no traceback."""
    installation = installation_in(tmp_path, **bot_secrets()).make_databases()
    looped = make_loop(tmp_path / "looped" / "path")
    done = installation.with_settings(**{setting: str(looped)}).cli(command)

    assert "Traceback" not in done.stderr
    assert "internal_error" not in done.stderr
    # Before the first start there is no database, and none is missed.
    if setting != "TOKEN_DB_PATH" or command in ("run", "doctor"):
        assert done.returncode != 0
        assert str(looped) in done.stdout + done.stderr
