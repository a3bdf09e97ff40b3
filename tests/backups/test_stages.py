"""The tables of the model."""

from __future__ import annotations

import re
from typing import get_args

from backups.model import OperationName
from backups.vocabulary.stages import STAGES
from tests.support.installation import REPOSITORY


def test_every_operation_has_stages_of_different_names() -> None:
    """No operation is without stages, and a name says in which one a run is."""
    assert set(STAGES) == set(get_args(OperationName))
    for stages in STAGES.values():
        assert len({stage.name for stage in stages}) == len(stages) > 0


def test_the_stages_are_documented() -> None:
    """`docs/commands.md` has the stages of each operation in their order, with their words."""
    section = (REPOSITORY / "docs/commands.md").read_text().partition("## Stages")[2]
    rows = re.findall(r"^\| (?:`(\w+)`)? ?\| `(\w+)` \| ([^|]+) \|$", section, re.MULTILINE)
    documented: dict[str, list[tuple[str, str]]] = {}
    for operation, stage, does in rows:
        if operation:
            current = documented.setdefault(operation, [])
        current.append((stage, does))
    assert documented == {
        operation: [(stage.name, stage.does) for stage in stages]
        for operation, stages in STAGES.items()
    }
