"""Where a manifest that nobody can read is all there is, a restore says so, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backups.errors import NoRestorePoint
from tests.support.bench import open_bench


def test_no_restore_point_names_the_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    """A person who needs a restore learns that the store has a set, and where the reason is."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genlive")
        made = bench.made()
        bench.replace_manifest(made.id, b"{")
        with pytest.raises(NoRestorePoint) as caught:
            bench.service.restore.plan()
        assert caught.value.message.endswith(
            f"; the store has 1 set whose manifest cannot be read, the newest {made.id}"
        )
        assert caught.value.hint.startswith("Find out why: ./bot backups list.")


def test_a_long_name_does_not_hide_what_is_wrong_with_a_manifest(tmp_path: Path) -> None:
    """Names in a document are another's: however long one is, the fault beside it is shown."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genlive")
        made = bench.made()
        manifest = bench.manifest_of(made.id)
        manifest["objects"][0]["rows"] = {"n" * 5000: 1}
        bench.replace_manifest(made.id, json.dumps(manifest).encode())
        bench.service.catalogue.refresh()
        (warning,) = bench.service.catalogue.unread.warnings()
        assert "at most 1000 characters" in warning.message
