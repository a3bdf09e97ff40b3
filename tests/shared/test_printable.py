"""Tests of `shared.printable`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("a set of 3 rows, größer als 2 €", "a set of 3 rows, größer als 2 €"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\x7f\x00\b\r\n\t", r"\x7f\x00\x08\r\n\t"),
        ("gpj.\u202egood", r"gpj.\u202egood"),
        ("\u2066\u200b\ufeff\u2028", r"\u2066\u200b\ufeff\u2028"),
        ("\udc80", r"\udc80"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    """Controls, escapes, bidirectional marks and lone surrogates become what Python writes."""
    assert printable(text) == shown


@given(st.text(), st.none() | st.integers(1, 50))
def test_whatever_comes_is_one_printable_line(text: str, most: int | None) -> None:
    """The line is printable, can be encoded, is as long as it may be; what is printable stays."""
    shown = printable(text, most)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert most is None or len(shown) <= most
    if text.isprintable() and (most is None or len(text) <= most):
        assert shown == text


def test_a_long_text_is_cut_with_a_sign() -> None:
    """Who reads it sees that there was more."""
    assert printable("x" * 11, 10) == "x" * 9 + "…"
    assert printable("\x1b" * 10, 10) == r"\x1b\x1b\…"


def test_lines_stay_lines() -> None:
    """A text of ours has lines; only what is in them is shown."""
    assert printable_lines("a\x1b\nb\r\n\n") == "a\\x1b\nb\\r\n\n"
