"""Tests of `backups.host.heartbeats`: other processes know how the threads of the leader are."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backups.host.heartbeats import Heartbeats, dump_signs, load_signs
from backups.model import Beat, Finding
from shared.databases.engines.holder import Holder
from shared.process.lasting_work import Sign
from tests.support.clock import FixedClock
from tests.support.installation import REPOSITORY

SIGNS = (
    Sign("scheduler", age=2, most=180),
    Sign("follower", age=400, most=180, failure="the disk is full [disk_full] Make room.",
         failing_for=30),
)  # fmt: skip


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "heartbeats"


@pytest.fixture
def heartbeats(path: Path, clock: FixedClock) -> Heartbeats:
    return Heartbeats(path, clock.monotonic, lambda: "this boot")


def test_ages_are_those_of_the_moment_of_reading(heartbeats: Heartbeats, clock: FixedClock) -> None:
    """By the monotonic clock, wherever the other one was set to meanwhile."""
    heartbeats.write(SIGNS)
    clock.step(days=-90)
    clock.advance(seconds=10)

    found = heartbeats.read()

    assert found is not None
    assert (found.pid, found.age) == (os.getpid(), timedelta(seconds=10))
    assert found.beats == (
        Beat("scheduler", timedelta(seconds=12), timedelta(seconds=180)),
        Beat(
            "follower",
            timedelta(seconds=410),
            timedelta(seconds=180),
            "the disk is full [disk_full] Make room.",
            timedelta(seconds=40),
        ),
    )


def test_another_process_reads_them_by_the_clock_of_the_host(path: Path) -> None:
    """The command line knows how old they are: the clock and the start are those of the host."""
    Heartbeats(path).write(SIGNS)
    code = (
        "import json, sys; from pathlib import Path\n"
        "from backups.host.heartbeats import Heartbeats\n"
        "found = Heartbeats(Path(sys.argv[1])).read()\n"
        "ages = [found.age, *(beat.age for beat in found.beats)]\n"
        "print(json.dumps([found.pid, *(age.total_seconds() for age in ages)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    pid, passed, *ages = json.loads(done.stdout)
    assert pid == os.getpid()
    assert 0 <= passed < 60
    assert ages == pytest.approx([2 + passed, 400 + passed])


def test_the_file_is_private_and_keeps_its_place(heartbeats: Heartbeats, path: Path) -> None:
    """It is written in place, with the same size, whatever it says."""
    heartbeats.write(SIGNS)
    before = path.stat()
    assert stat.S_IMODE(before.st_mode) == 0o600

    heartbeats.write([Sign(name, 1, 2, "☃" * 5000, 3) for name in ("a", "b", "c", "d")])

    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size) == (before.st_ino, 8192)
    found = heartbeats.read()
    assert found is not None
    assert [len(beat.failure or "") for beat in found.beats] == [250] * 4


def test_a_full_disk_does_not_stop_it(tmp_path: Path) -> None:
    """On a disk without a free block the file goes on being rewritten."""
    code = """
import os, sys
from pathlib import Path
from backups.host.heartbeats import Heartbeats
from shared.process.lasting_work import Sign
root = Path(sys.argv[1])
beats = Heartbeats(root / "heartbeats")
beats.write([Sign("scheduler", 1, 180)])
filler = os.open(root / "filler", os.O_WRONLY | os.O_CREAT)
pwrite = os.pwrite
def fill_first(*arguments):  # whoever else writes to the disk takes every block that is free
    try:
        while True:
            os.write(filler, bytes(4096))
    except OSError as error:
        print(error.strerror)
    return pwrite(*arguments)
os.pwrite = fill_first
beats.write([Sign("scheduler", 2, 180, "the disk is full", 1)])
print(beats.read().beats[0].failure)
"""
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c",
         'mount -t tmpfs -o size=64k none "$0" && exec "$@"',
         str(tmp_path), sys.executable, "-c", code, str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["No space left on device", "the disk is full"], done.stderr


def test_a_folder_that_was_made_anew_gets_a_new_file(heartbeats: Heartbeats, path: Path) -> None:
    """Whoever removed `BACKUP_DIR` under the running app took only what was written before."""
    heartbeats.write(SIGNS)
    path.unlink()
    assert heartbeats.read() is None

    heartbeats.write(SIGNS)
    assert heartbeats.read() is not None


def _flip(content: bytes) -> bytes:
    return content.replace(b"scheduler", b"schedulex")


def _torn(content: bytes) -> bytes:
    return content[:4096] + bytes(4096)


@pytest.mark.parametrize(
    "damage",
    [_flip, _torn, lambda content: content[:-1], lambda content: content + b"\n",
     lambda _: b"", lambda _: os.urandom(8192), lambda _: bytes(8192)],
)  # fmt: skip
def test_what_is_torn_or_damaged_is_no_heartbeat(
    heartbeats: Heartbeats, path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Whatever the file holds, reading it does not fail, and nothing of it is believed."""
    heartbeats.write(SIGNS)
    path.write_bytes(damage(path.read_bytes()))

    assert heartbeats.read() is None


def test_those_of_another_start_of_the_host_are_none(
    heartbeats: Heartbeats, path: Path, clock: FixedClock
) -> None:
    """After a reboot the monotonic clock begins anew, and its old times mean nothing."""
    heartbeats.write(SIGNS)

    assert Heartbeats(path, clock.monotonic, lambda: "another boot").read() is None
    assert Heartbeats(path, lambda: clock.monotonic() - 100, lambda: "this boot").read() is None


def test_reading_while_it_is_written_never_meets_half_of_it(path: Path) -> None:
    """What is read is what was written at one time, however often both happen at once."""
    heartbeats = Heartbeats(path)
    ended = threading.Event()

    def write() -> None:
        for number in range(2000):
            heartbeats.write([Sign(str(number), 1, number, "x" * (number % 250))])
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    read = 0
    while not ended.is_set() or not read:
        if (found := heartbeats.read()) is not None:
            (beat,) = found.beats
            number = int(beat.name)
            assert (beat.most, beat.failure) == (timedelta(seconds=number), "x" * (number % 250))
            read += 1
    writer.join()


def test_what_a_leader_tells_other_hosts_grows_older() -> None:
    """Its threads, and what only its own process and disk can tell."""
    full = Finding("records_unusable", "the disk is full", "Make room.")
    holder = Holder("fox", 17, timedelta(minutes=5), signs=dump_signs(SIGNS, (full,)))

    found = load_signs(replace(holder, signs_age=timedelta(seconds=10)))

    assert found is not None
    assert (found.host, found.pid, found.age) == ("fox", 17, timedelta(seconds=10))
    assert found.beats == (
        Beat("scheduler", timedelta(seconds=12), timedelta(seconds=180)),
        Beat(
            "follower",
            timedelta(seconds=410),
            timedelta(seconds=180),
            "the disk is full [disk_full] Make room.",
            timedelta(seconds=40),
        ),
    )
    assert found.findings == (full,)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"beats": [{}], "findings": []}', "no document"])
def test_what_nobody_can_read_is_no_sign(text: str) -> None:
    """A leader has told nothing yet, or another version has."""
    assert load_signs(Holder("fox", 17, timedelta(minutes=5), signs=text)) is None
