"""Tests of `backups.host.lease`."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from errno import ENOSYS
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from backups.errors import DirectoryUnusable
from backups.host.lease import Lease
from tests.support.installation import REPOSITORY
from tests.support.waiting import eventually

HOLDER = """
import sys
from pathlib import Path
from backups.host.lease import Lease

lease = Lease(Path(sys.argv[1]))
held = lease.try_acquire()
if held is not None:
    lease.announce()
print("held" if held else "refused", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


@contextmanager
def other_process(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that tries to take the lease and keeps it; what it says about that."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_lease_has_one_holder(path: Path) -> None:
    """Whoever holds it keeps out the others of the same process, until it is released."""
    held = Lease(path).try_acquire()
    assert held is not None

    assert Lease(path).try_acquire() is None
    assert not Lease(path).is_free()

    held.release()
    assert Lease(path).is_free()
    again = Lease(path).try_acquire()
    assert again is not None
    again.release()


def test_one_lease_object_is_no_way_around_it(path: Path) -> None:
    """Taking it twice through the same object is refused: it is not reentrant."""
    lease = Lease(path)
    held = lease.try_acquire()
    assert held is not None

    assert lease.try_acquire() is None
    held.release()


def test_releasing_twice_lets_go_of_nobody_elses(path: Path) -> None:
    """A second release does nothing, also when another has taken the lease meanwhile."""
    first = Lease(path).try_acquire()
    assert first is not None
    first.release()
    second = Lease(path).try_acquire()
    assert second is not None

    first.release()

    assert not Lease(path).is_free()
    second.release()


def test_threads_exclude_each_other(path: Path) -> None:
    """Of many threads that ask at once exactly one gets it, time after time."""
    lease = Lease(path)
    for _ in range(20):
        barrier = threading.Barrier(8)

        def ask(barrier: threading.Barrier = barrier) -> object:
            barrier.wait()
            return lease.try_acquire()

        with ThreadPoolExecutor(8) as pool:
            answers = [future.result() for future in [pool.submit(ask) for _ in range(8)]]
        holders = [held for held in answers if held is not None]
        assert len(holders) == 1
        holders[0].release()  # type: ignore[attr-defined]


def test_a_thread_may_release_what_another_took(path: Path) -> None:
    """A run that begins in a request's thread ends in another one."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(Lease(path).try_acquire).result()
    assert held is not None

    held.release()

    assert Lease(path).is_free()


def test_processes_exclude_each_other(path: Path) -> None:
    """A lease in another process's hands is refused here, and the other way round."""
    with other_process(path) as (_, said):
        assert said == "held"
        assert Lease(path).try_acquire() is None

    held = Lease(path).try_acquire()
    assert held is not None
    with other_process(path) as (_, said):
        assert said == "refused"
    held.release()


def test_a_killed_holder_holds_nothing(path: Path) -> None:
    """SIGKILL of the holder frees the lease by itself, whatever is left on the disk."""
    with other_process(path) as (process, said):
        assert said == "held"
        assert Lease(path).holder() == (socket.gethostname(), process.pid)

        process.send_signal(signal.SIGKILL)
        process.wait()

        assert Lease(path).is_free()
        assert Lease(path).holder() is None
        assert path.with_suffix(".json").exists()  # and nobody believes it


def test_a_child_of_the_holder_holds_nothing(path: Path) -> None:
    """A process that the holder started does not keep the lease when the holder is gone."""
    held = Lease(path).try_acquire()
    assert held is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        held.release()

        assert Lease(path).is_free()
        child.kill()


def test_waiting_ends_when_the_lease_is_released(path: Path) -> None:
    """With a timeout, the next holder gets in as soon as the lease is free."""
    held = Lease(path).try_acquire()
    assert held is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Lease(path).try_acquire, 20)
        assert Lease(path).try_acquire(0.05) is None
        assert not waiting.done()

        held.release()

        got = waiting.result()
    assert got is not None
    got.release()


def test_the_holder_is_named_while_it_holds(path: Path) -> None:
    """Host and pid of the holder are known while it holds the lease, and to nobody after."""
    lease = Lease(path)
    assert lease.holder() is None
    held = lease.try_acquire()
    assert held is not None
    lease.announce()

    assert lease.holder() == (socket.gethostname(), os.getpid())
    assert Lease(path).holder() == (socket.gethostname(), os.getpid())

    held.release()
    assert lease.holder() is None


@pytest.mark.parametrize("left", ["", "{", "[]", '{"host": "h"}', '{"host": "h", "pid": "x"}'])
def test_a_damaged_announcement_names_nobody(path: Path, left: str) -> None:
    """Whatever the file beside the lock holds, asking for the holder does not fail."""
    held = Lease(path).try_acquire()
    assert held is not None
    path.with_suffix(".json").write_text(left)

    assert Lease(path).holder() is None
    held.release()


def test_asking_whether_it_is_free_leaves_it_free(path: Path) -> None:
    """However many ask, the lease can be taken afterwards."""
    lease = Lease(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: lease.is_free(), range(100)))

    held = lease.try_acquire()
    assert held is not None
    held.release()


def test_its_files_are_private(path: Path) -> None:
    """Lock and announcement are 0600."""
    lease = Lease(path)
    held = lease.try_acquire()
    assert held is not None
    lease.announce()
    held.release()

    for file in (path, path.with_suffix(".json")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_lock_that_cannot_be_made_is_an_error_by_name(tmp_path: Path) -> None:
    """A folder that is none is told apart from a lease that another holds."""
    (tmp_path / "file").touch()

    with pytest.raises(DirectoryUnusable, match=r"run\.lock"):
        Lease(tmp_path / "file" / "run.lock").try_acquire()


def test_an_announcement_that_cannot_be_written_is_an_error_by_name(tmp_path: Path) -> None:
    """The scheduler must meet an error of ours here: any other would end its thread."""
    with pytest.raises(DirectoryUnusable):
        Lease(tmp_path / "no-folder" / "scheduler.lock").announce()


def test_it_waits_for_no_pid(path: Path) -> None:
    """An announcement by a process that lives does not make a free lease look held."""
    with other_process(path) as (process, _):
        eventually(path.with_suffix(".json").exists, "the announcement")
        process.kill()
        process.wait()
        path.with_suffix(".json").write_text(f'{{"host": "here", "pid": {os.getpid()}}}')

        assert Lease(path).is_free()


def test_a_lease_whose_file_was_removed_is_taken_again(path: Path) -> None:
    """A lock on a removed file keeps nobody out: its holder takes the one that is there now."""
    lease = Lease(path)
    held = lease.try_acquire()
    assert held is not None
    lease.announce()
    assert held.keep()
    shutil.rmtree(path.parent)
    path.parent.mkdir()

    assert held.keep()

    with other_process(path) as (_, said):
        assert said == "refused"
    assert Lease(path).holder() == (socket.gethostname(), os.getpid())
    held.release()
    with other_process(path) as (_, said):
        assert said == "held"


def test_a_lease_that_another_has_meanwhile_is_not_kept(path: Path) -> None:
    """When the lock file was removed and another process has the new one, this one has nothing."""
    held = Lease(path).try_acquire()
    assert held is not None
    path.unlink()
    with other_process(path) as (_, said):
        assert said == "held"

        assert not held.keep()

    held.release()
    assert Lease(path).is_free()


def test_a_lock_file_that_is_removed_while_it_is_locked_is_not_a_lease(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who locks a file that another process removes at that moment gets the one that follows."""
    acquire = FileLock.acquire
    removed: list[int] = []

    def acquire_and_remove(lock: FileLock, **options: Any) -> Any:
        acquired = acquire(lock, **options)
        if not removed:
            removed.append(path.stat().st_ino)
            path.unlink()
        return acquired

    monkeypatch.setattr(FileLock, "acquire", acquire_and_remove)
    held = Lease(path).try_acquire()
    monkeypatch.undo()

    assert removed
    assert held is not None
    with other_process(path) as (_, said):
        assert said == "refused"
    held.release()


def test_a_disk_without_file_locks_is_refused_by_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock that a dead process could leave for ever is taken in place of one of the kernel."""

    def not_there(_descriptor: int, _operation: int) -> None:
        raise OSError(ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", not_there)
    with pytest.raises(DirectoryUnusable, match="has no file locks") as refused:
        Lease(path).try_acquire()
    assert "BACKUP_DIR" in refused.value.hint
