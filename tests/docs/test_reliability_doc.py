"""`docs/reliability.md` names tests: each of them exists, and each fault test is named."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = (REPOSITORY / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", DOCUMENT)))
_NO_FAULTS = {"test_rows_are_what_the_witness_counts"}


def names_in(path: str) -> set[str]:
    """The names of the test functions of a file."""
    tree = ast.parse((REPOSITORY / path).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_each_named_test_exists(path: str, name: str) -> None:
    """A row of the table points to a test that is there."""
    assert name in names_in(path)


def test_every_row_names_a_test() -> None:
    """No fault is in the table on its author's word."""
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| ")]
    faults = [row for row in rows if not row.startswith("| fault |")]

    assert len(faults) > 40
    for row in faults:
        assert re.search(r"\| `tests/[\w/]+\.py::test_\w+` \|$", row), row


def test_every_fault_test_is_in_the_table() -> None:
    """The other way round: what `test_faults.py` proves is told."""
    path = "tests/backups/operations/backup/test_faults.py"
    told = {name for file, name in NAMED if file == path}

    assert names_in(path) - _NO_FAULTS == told
