"""Numbers of things in messages: one of them is never many."""

from __future__ import annotations

import re

import pytest

from shared.words import counted
from tests.support.installation import REPOSITORY


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("set",), "0 sets"),
        (1, ("set",), "1 set"),
        (2, ("set",), "2 sets"),
        (12_345, ("row",), "12,345 rows"),
        (1, ("is", "are"), "1 is"),
        (2, ("is", "are"), "2 are"),
    ],
)
def test_a_number_has_its_noun(count: int, words: tuple[str, ...], text: str) -> None:
    """One is singular; nought and many are plural, which a word that takes no s brings."""
    assert counted(count, *words) == text


def test_no_message_has_a_noun_for_one_and_many() -> None:
    """`set(s)`, and a number that is put before a plural noun, are not in the code any more."""
    # What may be one; a number of bytes or seconds is written as it is.
    nouns = "sets|rows|restore points|objects were|values|settings|URLs|backups|runs|files"
    careless = re.compile(rf"\}} [\w ]+\(s\)|\{{[^{{}}]+\}} (?:{nouns})\b")
    found = [
        f"{path.relative_to(REPOSITORY)}: {line.strip()}"
        for package in ("backups", "shared", "facebook_integration", "shopify_integration")
        for path in (REPOSITORY / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if '"' in line and careless.search(line)
    ]
    assert not found, "\n".join(found)
