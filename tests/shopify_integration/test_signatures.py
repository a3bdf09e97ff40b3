"""Shopify's signatures, checked against the stand-in's own signing code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopify_integration.signatures import callback_is_signed, webhook_is_signed
from tests.fakes.shopify.signing import body_hmac, query_hmac

SECRET = "shpss_0123456789abcdef"
NAMES = st.text(
    st.characters(exclude_characters="=", exclude_categories=["Cs"]), min_size=1
).filter(lambda name: name != "hmac")
VALUES = st.text(st.characters(exclude_categories=["Cs"]))


@given(values=st.dictionaries(NAMES, VALUES), data=st.data())
def test_a_signed_query_is_taken_in_any_order(values: dict[str, str], data: st.DataObject) -> None:
    """All of it counts but `hmac` itself, also what Shopify may add one day."""
    pairs = list(values.items())
    query = data.draw(st.permutations([*pairs, ("hmac", query_hmac(SECRET, pairs))]))

    assert callback_is_signed(query, SECRET)
    assert not callback_is_signed(query, SECRET + "x")
    assert not callback_is_signed([*query, ("more", "1")], SECRET)


@pytest.mark.parametrize(
    "defect",
    [
        lambda query: query[:-1],
        lambda query: [("hmac", query[-1][1])],
        lambda query: [*query, query[0]],
        lambda query: [*query, query[-1]],
        lambda query: [*query[:-1], ("hmac", "")],
        lambda query: [*query[:-1], ("hmac", query[-1][1].upper())],
        lambda query: [*query[:-1], ("hmac", "ä" * 64)],
        lambda query: [(name, value + "&") for name, value in query],
    ],
)
def test_a_defect_is_a_refusal_and_no_failure(defect: object) -> None:
    """Missing, doubled, or not even a signature."""
    pairs = [("shop", "kaesehaus.myshopify.com"), ("code", "c")]
    query = [*pairs, ("hmac", query_hmac(SECRET, pairs))]
    assert callable(defect)

    assert not callback_is_signed(defect(query), SECRET)


def test_signs_of_a_query_cannot_move_between_its_values() -> None:
    """`a=1&b=2` is not a value `1&b=2` of `a`."""
    signature = query_hmac(SECRET, [("a", "1"), ("b", "2")])

    assert not callback_is_signed([("a", "1&b=2"), ("hmac", signature)], SECRET)


@given(body=st.binary())
def test_a_webhook_is_signed_over_its_bytes(body: bytes) -> None:
    """These bytes, under this secret, and no others."""
    assert webhook_is_signed(body, body_hmac(SECRET, body), SECRET)
    assert not webhook_is_signed(body + b" ", body_hmac(SECRET, body), SECRET)
    assert not webhook_is_signed(body, body_hmac(SECRET + "x", body), SECRET)


@pytest.mark.parametrize("header", ["", "x", "=" * 44, "ä" * 44, "x" * 10_000])
def test_a_malformed_header_is_a_refusal_and_no_failure(header: str) -> None:
    """Whatever stands in it."""
    assert not webhook_is_signed(b"{}", header, SECRET)
