"""Tests of `backups.format.naming`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.format import naming
from backups.format.naming import DataKey
from tests.support.records import INSTANT, INSTANTS, SOURCE_NAMES

PREFIXES = st.sampled_from(["backups/", "a/b/", "daily.2026/", "b/sets/"])
SUFFIXES = st.sampled_from(["", ".zst", ".age", ".zst.age"])
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
ZONED_INSTANTS = st.builds(datetime.astimezone, INSTANTS, ZONES)


def to_the_second(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(microsecond=0)


@given(PREFIXES, SOURCE_NAMES, ZONED_INSTANTS, SUFFIXES)
def test_a_timed_key_says_what_it_was_made_of(
    prefix: str, source: str, instant: datetime, suffix: str
) -> None:
    """Source, day, instant and suffix of a timed key are read back from it, in UTC."""
    key = naming.data_key(prefix, source, instant, dated=False, suffix=suffix)

    utc = to_the_second(instant)
    assert naming.parse_data_key(prefix, key) == DataKey(source, utc.date(), utc, suffix)


@given(PREFIXES, SOURCE_NAMES, ZONED_INSTANTS, SUFFIXES)
def test_a_dated_key_says_what_it_was_made_of(
    prefix: str, source: str, instant: datetime, suffix: str
) -> None:
    """Source, day and suffix of a dated key are read back from it, and it has no instant."""
    key = naming.data_key(prefix, source, instant, dated=True, suffix=suffix)

    day = instant.astimezone(UTC).date()
    assert naming.parse_data_key(prefix, key) == DataKey(source, day, None, suffix)


@given(ZONED_INSTANTS)
def test_a_set_id_is_its_instant(instant: datetime) -> None:
    """An id is accepted as one, names the instant to the second, and sorts as instants do."""
    set_id = naming.set_id(instant)

    assert naming.is_set_id(set_id)
    assert datetime.strptime(set_id, "%Y%m%dT%H%M%S%z") == to_the_second(instant)
    assert naming.set_id(instant + timedelta(seconds=1)) > set_id


@given(PREFIXES, ZONED_INSTANTS, ZONED_INSTANTS)
def test_keys_of_a_set_say_what_they_were_made_of(
    prefix: str, instant: datetime, at: datetime
) -> None:
    """The keys of a manifest and of a verdict give back the set and the name."""
    of_set = naming.set_id(instant)

    manifest = naming.manifest_key(prefix, of_set)
    verdict = naming.verdict_key(prefix, of_set, "proof", at)

    assert naming.parse_set_key(prefix, manifest) == (of_set, "manifest")
    assert naming.parse_set_key(prefix, verdict) == (of_set, f"proof-{naming.stamp(at)}")
    assert all(key.startswith(naming.sets_prefix(prefix)) for key in (manifest, verdict))


@given(PREFIXES, SOURCE_NAMES, ZONED_INSTANTS, SUFFIXES)
def test_keys_of_different_kinds_are_not_taken_for_each_other(
    prefix: str, source: str, instant: datetime, suffix: str
) -> None:
    """A file's key is no set's key, a set's key is no file's, and an instance's is neither."""
    of_set = naming.set_id(instant)
    file = naming.data_key(prefix, source, instant, dated=False, suffix=suffix)

    assert naming.parse_set_key(prefix, file) is None
    for key in (naming.manifest_key(prefix, of_set), naming.instance_key(prefix, "0123abcd")):
        assert naming.parse_data_key(prefix, key) is None
    assert naming.parse_set_key(prefix, naming.instance_key(prefix, "0123abcd")) is None


@given(st.text(max_size=60))
def test_a_key_that_parses_is_one_that_is_made(tail: str) -> None:
    """Whatever a stranger calls an object: what parses is exactly what `data_key` writes."""
    key = f"backups/{tail}"
    parsed = naming.parse_data_key("backups/", key)

    if parsed is not None:
        instant = parsed.instant or datetime(
            parsed.day.year, parsed.day.month, parsed.day.day, tzinfo=UTC
        )
        dated = parsed.instant is None
        assert key == naming.data_key(
            "backups/", parsed.source, instant, dated=dated, suffix=parsed.suffix
        )


@pytest.mark.parametrize(
    "key",
    [
        "backups/../tokens_2026-11-22.db",
        "backups/a/../tokens_2026-11-22.db",
        "backups/./tokens_2026-11-22.db",
        "backups//tokens_2026-11-22.db",
        "backups//etc/tokens_2026-11-22.db",
        "backups/sub/tokens_2026-11-22.db",
        "backups/../../etc_2026-11-22.db",
        "/backups/tokens_2026-11-22.db",
        "backups/tokens_2026-11-22.db/",
        "backups/tokens_2026-11-22.db/..",
        "backups/tokens_2026-11-22.db\n",
        "backups/tokens_2026-11-22.db\x00",
        "backups/\x00tokens_2026-11-22.db",
        "backups/.tokens_2026-11-22.db",
        "backups/_2026-11-22.db",
        "backups/Tokens_2026-11-22.db",
        "backups/9tokens_2026-11-22.db",
        "backups/tokéns_2026-11-22.db",
        "backups/a23456789012345678901234567890123_2026-11-22.db",
        "backups/tokens-2026-11-22.db",
        "backups/tokens_2026-11-22.db.gz",
        "backups/tokens_2026-11-22.db.age.zst",
        "backups/tokens_2026-11-22.db.zst.zst",
        "backups/tokens_2026-11-22.sqlite",
        "backups/tokens_2026-11-22",
        "backups/tokens_2026-02-30.db",
        "backups/tokens_2026-13-01.db",
        "backups/tokens_2026-1-1.db",
        "backups/tokens_\u0662\u0660\u0662\u0666-11-22.db",
        "backups/tokens_2026-11-22T240000Z.db",
        "backups/tokens_2026-11-22T236000Z.db",
        "backups/tokens_2026-11-22T235960Z.db",
        "backups/tokens_2026-11-22T010000.db",
        "backups/tokens_2026-11-22T\u0660\u06610000Z.db",
        "other/tokens_2026-11-22.db",
        "backupstokens_2026-11-22.db",
        "backups/",
        "",
    ],
)
def test_what_is_no_key_of_a_file_is_not_parsed(key: str) -> None:
    """Tricks with paths, other suffixes and days that do not exist are no keys of ours."""
    assert naming.parse_data_key("backups/", key) is None


@pytest.mark.parametrize(
    "key",
    [
        "backups/sets/20261122T010000Z/../20261122T010000Z/manifest.json",
        "backups/sets/../manifest.json",
        "backups/sets/20261122T010000Z/manifest.json/..",
        "backups/sets/20261122T010000Z/manifest.json\n",
        "backups/sets/20261122T010000Z//manifest.json",
        "backups/sets/20261122T010000Z/sub/manifest.json",
        "backups/sets/20261122T010000Z/.json",
        "backups/sets/20261122T010000Z/manifest",
        "backups/sets/20261122T010000Z/Manifest.json",
        "backups/sets/20261122T010000Z/proof-2026.json",
        "backups/sets/20261122T010000Z/proof-20261201T090000Z.json.tmp",
        "backups/sets/20261322T010000Z/manifest.json",
        "backups/sets/20261122T016000Z/manifest.json",
        "backups/sets/\u0662\u0660\u0662\u06661122T010000Z/manifest.json",
        "backups/sets/legacy-2025-7-4/manifest.json",
        "backups/sets/manifest.json",
        "other/sets/20261122T010000Z/manifest.json",
        "sets/20261122T010000Z/manifest.json",
        "",
    ],
)
def test_what_is_no_key_of_a_set_is_not_parsed(key: str) -> None:
    """Only a manifest or verdict directly in the folder of a real instant is taken."""
    assert naming.parse_set_key("backups/", key) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "..",
        "20261122T010000",
        "20261122T010000z",
        "20261122T010000Z ",
        "20261122T010000Z\n",
        "20261122T010000Z/",
        "2026-11-22T01:00:00Z",
        "20260230T010000Z",
        "20261122T240000Z",
        "20261122T235960Z",
        "00001122T010000Z",
        "\u0662\u0660\u0662\u06661122T010000Z",
        "\uff12\uff10\uff12\uff161122T010000Z",
    ],
)
def test_what_is_no_set_id_is_refused(text: str) -> None:
    """Only ASCII digits that are an instant are an id: it becomes part of keys and paths."""
    assert not naming.is_set_id(text)


def test_the_keys_are_those_that_are_documented() -> None:
    """The first set of a day has the names that the old scripts used, later ones the time."""
    assert naming.data_key("backups/", "tokens", INSTANT, dated=True) == (
        "backups/tokens_2026-11-22.db"
    )
    assert naming.data_key("backups/", "sessions", INSTANT, dated=False, suffix=".zst.age") == (
        "backups/sessions_2026-11-22T010000Z.db.zst.age"
    )
    assert naming.manifest_key("backups/", "20261122T010000Z") == (
        "backups/sets/20261122T010000Z/manifest.json"
    )
    assert naming.verdict_key("backups/", "20261122T010000Z", "proof", INSTANT) == (
        "backups/sets/20261122T010000Z/proof-20261122T010000Z.json"
    )


def test_the_day_of_a_key_is_the_utc_day() -> None:
    """Half past midnight in Tokyo is still the day before."""
    tokyo = datetime(2026, 11, 23, 0, 30, tzinfo=timezone(timedelta(hours=9)))

    assert naming.dated_stem("backups/", "tokens", tokyo) == "backups/tokens_2026-11-22"


@pytest.mark.parametrize(
    ("key", "takes"),
    [
        ("backups/tokens_2026-11-22.db", True),
        ("backups/tokens_2026-11-22.db.zst", True),
        ("backups/tokens_2026-11-22.db.gz", True),
        ("backups/tokens_2026-11-22.sql.gz", True),
        ("backups/tokens_2026-11-22", True),
        ("backups/tokens_2026-11-22T010000Z.db", False),
        ("backups/tokens_2026-11-21.db", False),
        ("backups/tokens_2026-11-222.db", False),
        ("backups/sessions_2026-11-22.db", False),
        ("other/tokens_2026-11-22.db", False),
    ],
)
def test_any_suffix_takes_the_dated_stem(key: str, takes: bool) -> None:
    """What stands under the day's stem is in the way whatever its suffix; timed keys are not."""
    assert naming.takes_dated_stem("backups/", "tokens", INSTANT, key) is takes
