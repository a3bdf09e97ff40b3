"""Tests of the counter that numbers sets and increments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backups.host import sequence
from backups.host.sequence import SequenceFile


def test_numbers_count_up(tmp_path: Path) -> None:
    """Each number is one higher than the one before, through whichever object it is asked."""
    taken = [SequenceFile(tmp_path / "sequence").take() for _ in range(2500)]

    assert taken == list(range(1, 2501))


def test_a_number_is_above_what_is_known_to_be_taken(tmp_path: Path) -> None:
    """A store may know higher numbers than a file that was lost; lower ones change nothing."""
    counter = SequenceFile(tmp_path / "sequence")

    assert counter.take(above=41) == 42
    assert counter.take(above=7) == 43
    counter.prepare(above=99)
    assert counter.take() == 100


def test_two_processes_never_get_the_same_number(tmp_path: Path) -> None:
    """What processes take side by side are different numbers, each in the order of its time."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom backups.host.sequence import SequenceFile\n"
        "counter = SequenceFile(Path(sys.argv[1]))\n"
        "for _ in range(500): print(counter.take())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "sequence")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    taken = [[int(line) for line in one.communicate()[0].split()] for one in running]

    assert all(numbers == sorted(numbers) for numbers in taken)
    assert sorted(number for numbers in taken for number in numbers) == list(range(1, 1501))


def test_after_a_crash_of_the_host_no_number_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may have the file as it was when the ceiling was last made durable."""
    path = tmp_path / "sequence"
    counter = SequenceFile(path)
    counter.take()
    durable = path.read_bytes()
    taken = [counter.take() for _ in range(900)]

    path.write_bytes(durable)
    monkeypatch.setattr(sequence, "boot_id", lambda: "another-start")
    assert counter.take() > max(taken)


@pytest.mark.parametrize("content", [b"", b"x", b"1 2", bytes(96), b"7 9 \xff"])
def test_a_file_that_cannot_be_read_counts_for_nothing(tmp_path: Path, content: bytes) -> None:
    """A torn file is begun anew, above what the caller knows."""
    path = tmp_path / "sequence"
    path.write_bytes(content)

    assert SequenceFile(path).take(above=5) == 6
    assert SequenceFile(path).take() == 7
