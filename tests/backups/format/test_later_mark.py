"""Marks that were made later."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backups.errors import ManifestInvalid
from backups.format.later_mark import LaterMark, dump_later_mark, load_later_mark
from tests.support.records import INSTANT

SET = "20261122T010000Z"
NAMED = {"manifest": "0" * 64, "proof-20261122T020000Z": "f" * 64}


def test_what_is_written_is_read() -> None:
    """A later mark names the set, the time, and its documents by their SHA-256."""
    document = dump_later_mark(SET, INSTANT, NAMED)
    assert load_later_mark(document, expected_id=SET) == LaterMark(1, SET, INSTANT, NAMED)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"set_id": "20261122T010001Z"},
        {"documents": {"manifest": "0" * 63}},
        {"documents": {"../manifest": "0" * 64}},
        {"documents": []},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    """Another set, another format, a name or a hash that is none."""
    document = {**json.loads(dump_later_mark(SET, INSTANT, NAMED)), **change}
    with pytest.raises(ManifestInvalid):
        load_later_mark(json.dumps(document).encode(), expected_id=SET)
