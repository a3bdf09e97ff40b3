"""Tests of `backups.host.directory`."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from errno import EACCES, EDQUOT, EIO, ENOSPC
from pathlib import Path

import pytest

from backups.errors import DirectoryUnusable
from backups.host.directory import BackupDirectory, disk_error, disk_errors
from backups.host.records import open_records
from backups.host.removal import STEP_BYTES
from shared.errors import AppError, DiskFull
from tests.backups.conftest import LogLines
from tests.support.installation import REPOSITORY

FIRST, SECOND, THIRD = "20261122T010000Z", "20261123T010000Z", "20261124T010000Z"


@pytest.fixture
def directory(tmp_path: Path) -> BackupDirectory:
    return BackupDirectory(tmp_path / "data" / "backups")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def keep(directory: BackupDirectory, set_id: str, newest: int = 2) -> None:
    """Stage two files, and keep them as the local copies of a set."""
    with directory.staging(f"run-of-{set_id}") as staging:
        files = [staging / "tokens.db", staging / "sessions.db"]
        for file in files:
            file.write_text(f"{file.name} of {set_id}")
        directory.keep_copies(set_id, files, newest)


def test_every_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """All folders that are made, the parents of `BACKUP_DIR` too, are 0700."""
    old = os.umask(0o002)
    try:
        directory = BackupDirectory(tmp_path / "new" / "data" / "backups")
        with directory.staging("a-run") as staging:
            assert mode_of(staging) == 0o700
    finally:
        os.umask(old)

    below = [path for path in directory.path.rglob("*") if path.is_dir()]
    for folder in (tmp_path / "new", tmp_path / "new" / "data", *below):
        assert mode_of(folder) == 0o700, folder
    assert mode_of(directory.path) == 0o700


def test_every_file_is_private_whatever_the_umask(directory: BackupDirectory) -> None:
    """Records, locks and the instance's id are 0600."""
    old = os.umask(0o002)
    try:
        directory.instance()
        for lease in (directory.run_lease, directory.scheduler_lease):
            held = lease.try_acquire()
            assert held is not None
            lease.announce()
            held.release()
        records = open_records(directory.path)
        with records.transaction() as connection:
            connection.execute("INSERT INTO facts VALUES ('a', 'b')")
            modes = {
                file.name: mode_of(file) for file in directory.path.iterdir() if file.is_file()
            }
        records.close()
    finally:
        os.umask(old)

    assert set(modes) >= {"instance", "runs.db", "runs.db-wal", "run.lock", "scheduler.json"}
    assert set(modes.values()) == {0o600}, modes


def test_opening_it_again_changes_nothing(directory: BackupDirectory) -> None:
    """What is in it is still there for the next process."""
    instance = directory.instance()
    keep(directory, FIRST)

    again = BackupDirectory(directory.path)

    assert again.instance() == instance
    assert again.copies() == [FIRST]


def test_the_instance_is_made_once(directory: BackupDirectory) -> None:
    """The id is random, and the same ever after."""
    instance = directory.instance()

    assert len(instance) == 32
    assert int(instance, 16)
    assert directory.instance() == instance
    assert BackupDirectory(directory.path.with_name("other")).instance() != instance


def test_threads_that_race_get_one_instance(directory: BackupDirectory) -> None:
    """Of many that make it at once all get the same, and nothing else is left."""
    for number in range(20):
        raced = BackupDirectory(directory.path / f"race-{number}")
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(lambda _, raced=raced: raced.instance(), range(8)))) == 1
        assert not list(raced.path.glob(".instance-*"))


def test_processes_that_race_get_one_instance(directory: BackupDirectory) -> None:
    """Workers that start together agree on who they are."""
    script = (
        "import sys; from pathlib import Path; from backups.host.directory import *;"
        "d = BackupDirectory(Path(sys.argv[1])); print('ready', flush=True);"
        "sys.stdin.readline(); print(d.instance())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(directory.path)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate()[0].strip() for process in processes}

    assert said == {directory.instance()}


def test_what_is_staged_is_gone_when_the_run_is_over(directory: BackupDirectory) -> None:
    """The folder of a run disappears with all that is in it, also when the run fails."""
    with directory.staging("a-run") as staging:
        (staging / "tokens.db").write_bytes(b"data")
        (staging / "sub").mkdir()
    assert not staging.exists()

    with pytest.raises(RuntimeError), directory.staging("a-run") as staging:
        raise RuntimeError
    assert not staging.exists()
    assert list((directory.path / "staging").iterdir()) == []


def test_two_runs_do_not_share_a_folder(directory: BackupDirectory) -> None:
    """A run never finds files of another one in its staging folder."""
    with (
        directory.staging("a-run"),
        pytest.raises(DirectoryUnusable),
        directory.staging("a-run"),
    ):
        pass


def test_what_dead_runs_left_is_cleared(directory: BackupDirectory) -> None:
    """Clearing removes every left folder and file of the staging area, and nothing else."""
    keep(directory, FIRST)
    left = directory.path / "staging" / "dead-run"
    left.mkdir()
    (left / "tokens.db").write_bytes(b"data")

    directory.clear_staging()

    assert list((directory.path / "staging").iterdir()) == []
    assert directory.copies() == [FIRST]


def test_a_copy_that_is_half_removed_is_no_copy(
    directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes in steps is out of the copies before the first, and cleared by the next run."""

    class Killed(BaseException):
        pass

    def end(_path: Path, _size: int) -> None:
        raise Killed

    keep(directory, FIRST)
    (directory.path / "copies" / FIRST / "tokens.db").write_bytes(b"x" * (STEP_BYTES + 1))
    monkeypatch.setattr(os, "truncate", end)
    with pytest.raises(Killed):
        keep(directory, SECOND, newest=1)
    monkeypatch.undo()

    assert directory.copies() == [SECOND]
    assert list((directory.path / "staging").iterdir()) != []
    directory.clear_staging()
    assert list((directory.path / "staging").iterdir()) == []


def test_only_the_newest_copies_are_kept(directory: BackupDirectory) -> None:
    """With room for two, the third set pushes the first out, files and all."""
    for set_id in (FIRST, SECOND, THIRD):
        keep(directory, set_id)

    assert directory.copies() == [THIRD, SECOND]
    assert sorted(path.name for path in (directory.path / "copies").iterdir()) == [SECOND, THIRD]
    assert directory.copy_of(THIRD, "tokens").read_text() == f"tokens.db of {THIRD}"
    assert not directory.copy_of(FIRST, "tokens").exists()


def test_fewer_copies_than_before_are_kept_from_the_next_set_on(
    directory: BackupDirectory,
) -> None:
    """A smaller setting drops the older copies too."""
    for set_id in (FIRST, SECOND):
        keep(directory, set_id, newest=9)

    keep(directory, THIRD, newest=1)

    assert directory.copies() == [THIRD]


def test_no_copies_are_kept_when_none_are_wanted(directory: BackupDirectory) -> None:
    """With zero the files go with the staging folder, and earlier copies go as well."""
    keep(directory, FIRST, newest=2)
    keep(directory, SECOND, newest=0)

    assert directory.copies() == []
    assert list((directory.path / "copies").iterdir()) == []


def test_a_person_may_leave_things_beside_the_copies(directory: BackupDirectory) -> None:
    """What is not the copy of a set is neither listed nor removed."""
    kept = directory.path / "copies" / "before-the-move"
    kept.mkdir()
    (directory.path / "copies" / "20261122T010000Z.txt").write_text("note")

    for set_id in (FIRST, SECOND, THIRD):
        keep(directory, set_id, newest=1)

    assert kept.is_dir()
    assert (directory.path / "copies" / "20261122T010000Z.txt").exists()
    assert directory.copies() == [THIRD]


def test_a_copy_that_cannot_be_kept_costs_nothing(
    directory: BackupDirectory, log_lines: LogLines
) -> None:
    """Copies are a convenience: a folder that is in the way is a warning, not a failure."""
    (directory.path / "copies" / FIRST).mkdir()

    keep(directory, FIRST)

    assert [record.levelname for record in log_lines.records] == ["WARNING"]


def test_a_path_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    """A file where the folder should be is named, with what to check."""
    (tmp_path / "backups").touch()

    with pytest.raises(DirectoryUnusable) as caught:
        BackupDirectory(tmp_path / "backups")

    assert str(tmp_path / "backups") in caught.value.message
    assert "BACKUP_DIR" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (ENOSPC, DiskFull, "disk_full"),
        (EDQUOT, DiskFull, "disk_full"),
        (EACCES, DirectoryUnusable, "backup_dir_unusable"),
        (EIO, DirectoryUnusable, "backup_dir_unusable"),
    ],
)
def test_each_error_of_the_disk_has_a_name(number: int, kind: type[AppError], code: str) -> None:
    """A full disk is told apart from one that cannot be used, and the file is named."""
    error = OSError(number, os.strerror(number), "/data/backups/staging/x/tokens.db")

    translated = disk_error(error, Path("/data/backups"))

    assert type(translated) is kind
    assert translated.code == code
    assert "/data/backups/staging/x/tokens.db" in translated.message
    assert translated.hint


def test_errors_of_the_disk_are_translated_in_a_block() -> None:
    """An `OSError` without a file name names the folder; other errors pass."""
    with pytest.raises(DiskFull, match="/data/backups"), disk_errors(Path("/data/backups")):
        raise OSError(ENOSPC, "No space left on device")
    with pytest.raises(ValueError, match="other"), disk_errors(Path("/data/backups")):
        raise ValueError("other")


# --- removed under the running program --------------------------------------------------


def test_a_folder_that_was_removed_is_made_anew_with_the_id_of_the_process(
    directory: BackupDirectory, log_lines: LogLines
) -> None:
    """All that a run needs is there again, private, and one line says what is lost."""
    instance = directory.instance()
    keep(directory, FIRST)
    shutil.rmtree(directory.path)

    assert directory.copies() == []
    with directory.staging("a-run") as staging:
        assert mode_of(staging) == mode_of(directory.path) == 0o700
    keep(directory, SECOND)

    assert directory.instance() == instance
    assert BackupDirectory(directory.path).instance() == instance
    assert mode_of(directory.path / "instance") == 0o600
    assert directory.copies() == [SECOND]
    (line,) = [one.getMessage() for one in log_lines.records]
    assert str(directory.path) in line
    assert "what restores had replaced" in line


@pytest.mark.parametrize("use", ["instance", "clear_staging", "run_lease"])
def test_whatever_comes_first_makes_it_anew(directory: BackupDirectory, use: str) -> None:
    """No use of a removed folder fails, and each leaves the id there."""
    instance = directory.instance()
    shutil.rmtree(directory.path)

    if use == "run_lease":
        assert directory.run_lease.is_free()
    else:
        getattr(directory, use)()

    assert BackupDirectory(directory.path).instance() == instance


def test_processes_that_lose_their_folder_together_keep_one_id(directory: BackupDirectory) -> None:
    """Two workers that hold the same id write it once."""
    other = BackupDirectory(directory.path)
    instance = directory.instance()
    shutil.rmtree(directory.path)

    assert other.instance() == directory.instance() == instance


@pytest.mark.parametrize("content", [b"", b"\n", b"\x00" * 32, "é".encode(), b"x" * 5000])
def test_a_file_without_an_id_gets_one(
    directory: BackupDirectory, content: bytes, log_lines: LogLines
) -> None:
    """What a crash or a stranger left is no id: a running process has one, a start makes one."""
    instance = directory.instance()
    (directory.path / "instance").write_bytes(content)
    assert directory.instance() == instance
    assert len(log_lines.records) == 1

    (directory.path / "instance").write_bytes(content)
    fresh = BackupDirectory(directory.path).instance()
    assert fresh != instance
    assert len(fresh) == 32


def test_the_id_of_before_is_put_back_over_one_that_a_command_made(
    directory: BackupDirectory,
) -> None:
    """A command made the folder anew before the app did, with another id: the app keeps its id."""
    app = BackupDirectory(directory.path)
    instance = app.instance()
    shutil.rmtree(directory.path)
    command = BackupDirectory(directory.path)
    assert command.instance() != instance

    assert app.instance() == instance
    assert command.instance() == instance
    assert BackupDirectory(directory.path).instance() == instance


def test_another_id_in_the_file_is_taken(directory: BackupDirectory, log_lines: LogLines) -> None:
    """Somebody has put back an older folder: who this is, the folder says; once in the log."""
    other = "0123456789abcdef0123456789abcdef"
    directory.instance()
    (directory.path / "instance").write_text(f"{other}\n")

    assert directory.instance() == directory.instance() == other
    assert len(log_lines.records) == 1
