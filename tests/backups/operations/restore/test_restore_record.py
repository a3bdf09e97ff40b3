"""The record of the last restore in place, when it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups.errors import NothingToUndo
from backups.host.records import open_records
from tests.support.bench import open_bench
from tests.support.clock import FixedClock


def test_what_was_replaced_stays_when_nobody_knows_what_undo_needs(tmp_path: Path) -> None:
    """With a record that cannot be read, pruning drops no safety copy, and succeeds."""
    clock = FixedClock()
    with open_bench(tmp_path, settings={}, clock=clock) as bench:
        bench.write("genset")
        bench.made()
        for name in ("genone", "gentwo"):
            bench.write(name)
            bench.restored(bench.service.list_sets(9)[0][-1].id)
            clock.advance(days=30)
        records = open_records(bench.service.directory.path)
        with records.transaction() as connection:
            connection.execute("UPDATE facts SET value = '{}' WHERE name = 'last_restore'")
        records.close()

        bench.made()
        assert bench.service.prune.begin().execute().status == "succeeded"
        assert len(bench.safety_copies("tokens")) == 2
        with pytest.raises(NothingToUndo):
            bench.service.undo.undoable()
