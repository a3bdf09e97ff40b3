"""The limits of `docs/format.md`: what no document of the store may say, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from backups.errors import ManifestInvalid
from backups.format import legacy, naming
from backups.format.document import MOST_BYTES, MOST_NESTED, MOST_VALUES, read_object
from backups.format.instance import load_instance
from backups.format.later_mark import load_later_mark
from backups.format.manifest import (
    dump_drill,
    dump_verdict,
    load_aside,
    load_drill,
    load_manifest,
    load_verdict,
)
from backups.format.mark import MarkKey, Marks
from backups.model import DrillReport, Verdict
from tests.support.records import INSTANT, a_manifest, a_set, a_stored_object

SET = naming.set_id(INSTANT)
GOOD: dict[str, Any] = json.loads(a_manifest(a_set()))
ESCAPES = "\x1b[2J\u202e\x9b31m\nok"
SHOWN = r"\x1b[2J\u202e\x9b31m\nok"


def changed(**members: Any) -> bytes:
    """A good manifest with some members in place of its own."""
    return json.dumps({**GOOD, **members}).encode()


def with_object(**members: Any) -> bytes:
    """A good manifest whose first object has some members in place of its own."""
    first, *others = GOOD["objects"]
    return changed(objects=[{**first, **members}, *others])


def load(document: bytes) -> Any:
    """What a manifest of the set says."""
    return load_manifest(document, prefix="backups/", expected_id=SET)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(with_object(bytes=10**30), id="bytes that no database can hold"),
        pytest.param(with_object(bytes=2**48 + 1), id="more bytes than SQLite can write"),
        pytest.param(with_object(snapshot_bytes=10**30), id="snapshot bytes"),
        pytest.param(with_object(page_count=2**32 + 1), id="more pages than SQLite counts"),
        pytest.param(with_object(rows={"tokens": 2**53 + 1}), id="rows"),
        pytest.param(with_object(rows={"t" * 1001: 1}), id="a name of a table without an end"),
        pytest.param(with_object(unreadable=10**30), id="unreadable"),
        pytest.param(with_object(user_version=2**31), id="user_version above 32 bits"),
        pytest.param(with_object(user_version=-(2**31) - 1), id="user_version below 32 bits"),
        pytest.param(with_object(journal_mode="w" * 201), id="a long journal mode"),
        pytest.param(with_object(journal_mode=ESCAPES), id="a journal mode of escapes"),
        pytest.param(with_object(schema=ESCAPES), id="a schema of escapes"),
        pytest.param(changed(instance="0" * 201), id="a long instance"),
        pytest.param(changed(instance=ESCAPES), id="an instance of escapes"),
        pytest.param(changed(token_key=ESCAPES), id="a fingerprint of escapes"),
        pytest.param(changed(recipients=[ESCAPES]), id="a recipient of escapes"),
        pytest.param(changed(recipients=["age1"] * 501), id="more recipients than a header holds"),
        pytest.param(changed(proven_at="1969-12-31T23:59:59Z"), id="before all clocks"),
        pytest.param(changed(id="0999" + SET[4:], instant="0999-11-22T01:00:00Z"), id="year 999"),
        pytest.param(
            changed(
                objects=[
                    {**GOOD["objects"][0], "source": f"s{n}", "key": f"backups/s{n}_2026-11-22.db"}
                    for n in range(9)
                ]
            ),
            id="more objects than sources",
        ),
        pytest.param(changed(more="x" * MOST_BYTES), id="more than a megabyte"),
        pytest.param(changed(more=[0] * MOST_VALUES), id="too many values"),
        pytest.param(changed(objects=[1] * 300_000), id="hundreds of thousands of faults"),
        pytest.param(
            changed(more=json.loads("[" * MOST_NESTED + "]" * MOST_NESTED)), id="nested too deeply"
        ),
        pytest.param(changed()[:-1] + b', "id": "' + SET.encode() + b'"}', id="a name twice"),
        pytest.param(changed()[:-1] + b', "more": NaN}', id="NaN"),
        pytest.param(changed()[:-1] + b', "more": ' + b"9" * 5000 + b"}", id="5000 digits"),
    ],
)
def test_a_manifest_above_a_limit_is_refused(document: bytes) -> None:
    """It is invalid, by name and in a short line that a terminal can show."""
    with pytest.raises(ManifestInvalid) as caught:
        load_manifest(document, prefix="backups/")
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()


def test_a_manifest_at_its_limits_is_read() -> None:
    """What this program may write is far below them, and what is right at one is read."""
    document = with_object(
        bytes=2**48, page_count=2**32, user_version=-(2**31), rows={"t" * 1000: 2**53, ESCAPES: 0}
    )
    assert load(document).objects[0].bytes == 2**48


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("backups/tokens_2026-11-21.db", id="of the day before"),
        pytest.param("backups/tokens_2026-11-23.db", id="of the day after"),
        pytest.param("backups/tokens_2026-11-22T010001Z.db", id="of a second later"),
        pytest.param("backups/tokens_2025-11-22T010000Z.db", id="of a year before"),
        pytest.param("backups/tokens_2026-11-21.db.zst.age", id="of the day before, sealed"),
    ],
)
def test_a_manifest_that_claims_the_key_of_another_set_is_invalid(key: str) -> None:
    """A set has the dated keys of its UTC day and the timed ones of its second, and no others."""
    with pytest.raises(ManifestInvalid, match=r"no key of source tokens"):
        load(with_object(key=key))


@pytest.mark.parametrize(
    "key",
    ["backups/tokens_2026-11-22.db.zst", "backups/tokens_2026-11-22T010000Z.db.age"],
)
def test_its_own_keys_are_read(key: str) -> None:
    """The dated key of its day, the timed one of its second, however sealed."""
    assert load(with_object(key=key)).objects[0].key == key


@pytest.mark.parametrize(
    "suspect", [[ESCAPES], ["r" * 5000], [f"reason {number}" for number in range(500)]]
)
def test_reasons_are_shown_as_far_as_they_can_be(suspect: list[str]) -> None:
    """Texts for people of any version are read: printable, cut, and so many."""
    found = load(changed(suspect=suspect)).suspect
    assert 1 <= len(found) <= 100
    assert all(len(reason) <= 1000 and reason.isprintable() for reason in found)
    assert found[0].startswith(SHOWN if suspect == [ESCAPES] else suspect[0][:900])


def test_other_texts_are_shown_too() -> None:
    """What SQLite could not confirm, and why a proof failed."""
    assert load(with_object(finding=ESCAPES)).objects[0].finding == SHOWN
    verdict = dump_verdict(Verdict(SET, INSTANT, "none", ESCAPES + "x" * 5000))
    for document in (verdict, verdict.replace(b"\\\\x1b", b"\\u001b")):
        reason = load_verdict(document, expected_id=SET).reason
        assert reason.startswith(SHOWN)
        assert len(reason) == 1000


def test_no_reason_is_written_that_a_reader_would_cut() -> None:
    """Where thousands of tables lost their rows, the manifest names a hundred."""
    reasons = tuple(f"tokens.{ESCAPES}{number} has 0 rows" for number in range(3000))
    document = a_manifest(a_set(suspect=reasons))
    assert json.loads(document)["suspect"] == list(load(document).suspect)
    assert len(load(document).suspect) == 100


DRILL = dump_drill(DrillReport(SET, INSTANT, 1.5, 3, 0, None))
DOCUMENTS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "manifest": (load, changed()),
    "proof": (
        lambda document: load_verdict(document, expected_id=SET),
        dump_verdict(Verdict(SET, INSTANT, "full", "")),
    ),
    "drill": (lambda document: load_drill(document, expected_id=SET), DRILL),
    "aside": (
        lambda document: load_aside(document, expected_id=SET),
        json.dumps(
            {"format": 1, "set_id": SET, "at": "2026-11-22T01:00:00Z", "by": "run", "aside": True}
            | {"restored": SET}
        ).encode(),
    ),
    "mark": (
        lambda document: load_later_mark(document, expected_id=SET),
        json.dumps(
            {"format": 1, "set_id": SET, "at": "2026-11-22T01:00:00Z", "documents": {}}
        ).encode(),
    ),
    "instance": (
        lambda document: load_instance(document, instance="0" * 32, at=INSTANT),
        json.dumps(
            {"format": 1, "instance": "0" * 32, "host": "h", "machine": None, "directory": "/d"}
            | {"succeeds": [], "at": "2026-11-22T01:00:00Z"}
        ).encode(),
    ),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b'"more": "' + b"x" * MOST_BYTES + b'"', id="a megabyte"),
        pytest.param(b'"more": [' + b"0," * MOST_VALUES + b"0]", id="values"),
        pytest.param(b'"more": ' + b"[" * 20 + b"]" * 20, id="depth"),
        pytest.param(b'"more": ' + b"[" * 5000 + b"]" * 5000, id="endless depth"),
        pytest.param(b'"more": 1, "more": 1', id="a name twice"),
    ],
)
def test_each_kind_has_the_limits(kind: str, more: bytes) -> None:
    """Every document is refused for its size, its depth, its number of values, a name twice."""
    read, good = DOCUMENTS[kind]
    read(good)
    with pytest.raises((ManifestInvalid, ValueError)):
        read(good.rstrip()[:-1] + b", " + more + b"}")


@pytest.mark.parametrize("kind", sorted(set(DOCUMENTS) - {"manifest"}))
def test_each_kind_has_its_years(kind: str) -> None:
    """A time from before all clocks is no time of a document."""
    read, good = DOCUMENTS[kind]
    assert b"2026-11-22T01" in good
    with pytest.raises((ManifestInvalid, ValueError)):
        read(good.replace(b"2026-11-22T01", b"0999-11-22T01"))


@pytest.mark.parametrize("depth", [900, 100_000])
def test_the_mark_of_a_deep_document_is_checked_without_a_fault(depth: int) -> None:
    """`check` never raises, although what can be read may be too deep to be written again."""
    marks = Marks([MarkKey("0" * 16, b"k" * 32)], "backups/")
    mac = b'"mac": {"fingerprint": "0000000000000000", "hmac": "' + b"0" * 64 + b'"}'
    document = b'{"more": ' + b"[" * depth + b"]" * depth + b", " + mac + b"}"
    assert marks.check(naming.manifest_key("backups/", SET), document).outcome == "wrong"


def test_no_more_than_an_object_is_read() -> None:
    """The limits count what is in objects and lists, at every depth."""
    assert read_object(b'{"a": [1, {"b": 2}]}') == {"a": [1, {"b": 2}]}
    for many in (b"1", b"[]", b"{}", b'{"a": 1}'):
        with pytest.raises(ValueError, match="values"):
            read_object(b'{"a": [' + (many + b",") * MOST_VALUES + many + b"]}")


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31"])
def test_an_object_from_before_all_clocks_is_no_legacy_object(day: str) -> None:
    """A key with such a day is the key of nothing."""
    assert naming.parse_data_key("backups/", f"backups/tokens_{day}.db") is None
    assert not naming.is_legacy_id(f"legacy-{day}")
    assert not naming.is_set_id(f"{day.replace('-', '')}T000000Z")


def test_a_legacy_object_of_the_last_day_is_listed() -> None:
    """A planted `tokens_9999-12-31.db` does not end every listing with an `OverflowError`."""
    found = legacy.legacy_object_at("backups/", "backups/tokens_9999-12-31.db", 1, INSTANT)
    assert found is not None
    made = legacy.legacy_set([found]).created_at
    assert (made.year, made.month, made.day) == (9999, 12, 31)
    assert made - INSTANT > timedelta(days=365)


def test_a_set_of_the_last_day_has_its_keys() -> None:
    """The edge of the calendar is read like any day."""
    instant = INSTANT.replace(year=9999, month=12, day=31)
    document = a_manifest(a_set(instant, objects=(a_stored_object("tokens", instant),)))
    assert load_manifest(document, prefix="backups/").created_at == instant
