"""Documents of installations: out and in again, and what a stranger may have written."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.format import naming
from backups.format.instance import (
    MOST_BYTES,
    InstanceDocument,
    LastSet,
    dump_instance,
    load_instance,
    machine_hash,
)
from tests.support.records import INSTANTS

ID, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
AT = datetime(2026, 11, 22, 1, tzinfo=UTC)
IDS = st.text("0123456789abcdef", min_size=8, max_size=64)
TEXTS = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=255)


def a_document(**other: Any) -> InstanceDocument:
    """An installation of an ordinary host; `other` are fields."""
    values: dict[str, Any] = {
        "format": 1,
        "instance": ID,
        "host": "bot-1",
        "machine": machine_hash("0" * 32),
        "directory": "/opt/messenger-bot/data/backups",
        "succeeds": (OTHER,),
        "at": AT,
        "last_sets": {OTHER: LastSet(AT, 17)},
        "marking_since": AT,
        "rotated": "0123456789abcdef",
    }
    return InstanceDocument(**{**values, **other})


@given(IDS, TEXTS, TEXTS, st.lists(IDS, max_size=100), INSTANTS)
def test_what_was_written_is_read(
    instance: str, host: str, directory: str, succeeds: list[str], at: datetime
) -> None:
    """Every document comes back as it was, under the key that it is stored at."""
    document = a_document(
        instance=instance, host=host, directory=directory, succeeds=tuple(succeeds), at=at
    )
    key = naming.instance_document_key("backups/", instance, at)

    parsed = naming.parse_instance_document_key("backups/", key)

    assert parsed == (instance, at.replace(microsecond=0))
    assert load_instance(dump_instance(document), instance=instance, at=parsed[1]) == document


def test_its_members_are_these() -> None:
    """Readers of other versions rely on the names."""
    assert json.loads(dump_instance(a_document())) == {
        "format": 1,
        "instance": ID,
        "host": "bot-1",
        "machine": "33dca3e027a436672e8ba82627ceb99c53a98c1b2a5917a1b8b8dfd2143cf44e",
        "directory": "/opt/messenger-bot/data/backups",
        "succeeds": [OTHER],
        "at": "2026-11-22T01:00:00Z",
        "last_sets": {OTHER: {"at": "2026-11-22T01:00:00Z", "sequence": 17}},
        "marking_since": "2026-11-22T01:00:00Z",
        "rotated": "0123456789abcdef",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": "1"},
        {"instance": OTHER},
        {"instance": "../x"},
        {"host": 3},
        {"host": "x" * 256},
        {"host": "two\nlines"},
        {"host": "\x1b[2J"},
        {"machine": "short"},
        {"directory": "x" * 4097},
        {"succeeds": None},
        {"succeeds": ["short"]},
        {"succeeds": [OTHER] * 101},
        {"succeeds": [f"{OTHER}\n"]},
        {"at": "2026-11-22T01:00:00"},
        {"at": "2026-11-22T01:00:01Z"},
        {"at": "9999-12-31T23:59:59-14:00"},
        {"at": 1},
        {"last_sets": None},
        {"last_sets": {"short": {"at": "2026-11-22T01:00:00Z", "sequence": 1}}},
        {"last_sets": {OTHER: {"at": "2026-11-22T01:00:00", "sequence": 1}}},
        {"last_sets": {OTHER: {"at": "2026-11-22T01:00:00Z", "sequence": 0}}},
        {"last_sets": {OTHER: {"at": "2026-11-22T01:00:00Z", "sequence": 2**53 + 1}}},
        {"last_sets": {OTHER: {"at": "2026-11-22T01:00:00Z"}}},
        {
            "last_sets": {
                f"{n:032}": {"at": "2026-11-22T01:00:00Z", "sequence": 1} for n in range(101)
            }
        },
        {"marking_since": "2026-11-22T01:00:00"},
        {"rotated": "0123456789ABCDEF"},
        {"rotated": 7},
        {"padding": "x" * MOST_BYTES},
    ],
    ids=str,
)
def test_what_a_stranger_wrote_is_refused(change: dict[str, object]) -> None:
    """Wrong types, sizes, texts and times each make the whole document worth nothing."""
    document = {**json.loads(dump_instance(a_document())), **change}

    with pytest.raises(ValueError, match=r".") as caught:
        load_instance(json.dumps(document).encode(), instance=ID, at=AT)

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10_000])
def test_what_is_no_document_is_refused(document: bytes) -> None:
    """Whatever the bytes are, the reader raises one kind of error."""
    with pytest.raises(ValueError, match=r"."):
        load_instance(document, instance=ID, at=AT)


def test_members_of_later_versions_are_ignored() -> None:
    """A later version may add some without a new format."""
    document = {**json.loads(dump_instance(a_document())), "mark": "x"}
    assert load_instance(json.dumps(document).encode(), instance=ID, at=AT) == a_document()


def test_a_document_of_an_earlier_version_is_read() -> None:
    """It does not say how far the predecessors had come."""
    document = json.loads(dump_instance(a_document()))
    del document["last_sets"]

    found = load_instance(json.dumps(document).encode(), instance=ID, at=AT)

    assert found == a_document(last_sets={})


@pytest.mark.parametrize(
    "key",
    [
        f"backups/instances/{ID}.json",
        f"backups/instances/{ID}-20261122T010000Z",
        f"backups/instances/{ID}-20261322T010000Z.json",
        f"backups/instances/x{ID}-20261122T010000Z.json",
        f"other/instances/{ID}-20261122T010000Z.json",
        f"backups/instances/{ID}-20261122T010000Z.json\n",
    ],
)
def test_other_keys_are_no_document(key: str) -> None:
    """Neither the probe of older versions, nor a time that does not exist, nor another prefix."""
    assert naming.parse_instance_document_key("backups/", key) is None


def test_a_machine_without_an_id_equals_no_other() -> None:
    """An empty, missing or odd machine id has no hash, and two without one are not the same."""
    for text in ("", "\n", "uninitialized\n", "0" * 31, "G" * 32, "é" * 32):
        assert machine_hash(text) is None
    assert machine_hash("0" * 32) == machine_hash("0" * 32 + "\n") != machine_hash("1" * 32)
    nameless = a_document(machine=None)
    assert not nameless.is_same_place(nameless)
    assert a_document().is_same_place(a_document(host="renamed", succeeds=()))
    assert not a_document().is_same_place(replace(a_document(), directory="/elsewhere"))
    assert not a_document().is_same_place(replace(a_document(), machine="0" * 64))
