"""What `make test-fast` rests on: the choice of tests, the refusal of servers, files in memory."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest
from tests.support import servers
from tests.support.app_process import AppProcess
from tests.support.fake_process import FakeProcess
from tests.support.installation import REPOSITORY, Installation
from tests.support.memory import folder_in_memory
from tests.support.s3_server import S3Server

PURE = ("tests/backups/format", "tests/backups/decisions", "tests/backups/view")
CONTRACT = "tests/shared/store/test_object_store_contract.py"


def arguments_of_test_fast() -> list[str]:
    """What the target gives to pytest."""
    recipe = subprocess.run(
        ["make", "--dry-run", "test-fast"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (line,) = (line for line in recipe.splitlines() if " -m pytest " in line)
    return shlex.split(line.partition(" -m pytest ")[2])


def test_the_pure_rooms_and_the_directory_store_run_and_no_server_does() -> None:
    """`make test-fast` takes every file of the pure rooms, and of both stores the folder alone."""
    arguments = arguments_of_test_fast()
    paths = [argument for argument in arguments if argument.startswith("tests/")]
    assert all((REPOSITORY / path).is_dir() for path in paths)
    wanted = (*PURE, CONTRACT)
    assert all(any(Path(one).is_relative_to(path) for path in paths) for one in wanted)

    options = [argument for argument in arguments if argument not in paths]
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-n", "0", "--collect-only", "-v", *wanted],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for room in PURE:
        for path in (REPOSITORY / room).glob("test_*.py"):
            assert path.name in collected, path
    assert "[directory" in collected
    assert "[http" not in collected
    assert "[tls" not in collected
    by_its_fixture = "test_more_than_a_thousand_keys_are_all_listed"
    assert by_its_fixture in (REPOSITORY / CONTRACT).read_text()
    assert by_its_fixture not in collected


def test_no_server_starts_where_slow_tests_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A test that starts a server without the mark fails, and says which mark it needs."""
    monkeypatch.setattr(servers, "_refused", False)
    option = SimpleNamespace(markexpr="not soak and not slow")
    config: Any = SimpleNamespace(option=option)
    conftest.pytest_configure(config)
    for start in (
        S3Server.start,
        lambda: AppProcess(Installation(tmp_path)),
        lambda: FakeProcess("tests.fakes.graph"),
    ):
        with pytest.raises(AssertionError, match="mark the test `slow`"):
            start()


def test_folders_are_in_memory_where_it_has_room_and_runs_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Docker gives 64 MB in which nothing may be executed: there the tests stay on the disk."""
    room, flags = 10**12, 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room, total=room + 1))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    assert folder_in_memory(tmp_path) == tmp_path
    flags = os.ST_NOEXEC
    assert folder_in_memory(tmp_path) is None
    room, flags = 64_000_000, 0
    assert folder_in_memory(tmp_path) is None
    monkeypatch.undo()
    assert folder_in_memory(tmp_path / "missing") is None
