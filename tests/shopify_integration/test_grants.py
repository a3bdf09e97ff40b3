"""What a shop granted, as it is stored and read back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.merchants.errors import PlatformError
from shopify_integration.grants import (
    Grant,
    grant_of_answer,
    grant_of_text,
    grant_to_text,
    missing_scopes,
)
from tests.support.clock import MIDNIGHT

TIMES = st.none() | st.integers(0, 10**9).map(lambda seconds: MIDNIGHT + timedelta(seconds=seconds))


@given(
    grant=st.builds(
        Grant,
        access_token=st.text(min_size=1),
        scopes=st.lists(st.text()).map(tuple),
        expires_at=TIMES,
        refresh_token=st.none() | st.text(),
        granted_at=TIMES,
    )
)
def test_a_stored_grant_comes_back(grant: Grant) -> None:
    """Token, scopes and times are what they were."""
    assert grant_of_text(grant_to_text(grant)) == grant


def test_a_bare_token_is_a_grant_that_stays() -> None:
    """Rows from before tokens expired are no JSON, and are never refreshed."""
    grant = grant_of_text("shpat_0123456789abcdef")

    assert grant == Grant("shpat_0123456789abcdef")
    assert not grant.is_stale(MIDNIGHT)


@pytest.mark.parametrize(("seconds", "stale"), [(301, False), (300, True), (1, True), (-5, True)])
def test_a_token_is_stale_five_minutes_early(seconds: int, stale: bool) -> None:
    """An answer to a token that ends meanwhile would come too late."""
    grant = Grant("token", expires_at=MIDNIGHT + timedelta(seconds=seconds))

    assert grant.is_stale(MIDNIGHT) is stale


def test_an_answer_becomes_a_grant() -> None:
    """Seconds are counted from now; scopes are separated by commas."""
    answer = {
        "access_token": "shpat_1",
        "scope": "read_products, write_orders",
        "expires_in": 3600,
        "refresh_token": "shprt_1",
        "refresh_token_expires_in": 7776000,
    }

    assert grant_of_answer(answer, MIDNIGHT) == Grant(
        "shpat_1",
        ("read_products", "write_orders"),
        MIDNIGHT + timedelta(hours=1),
        "shprt_1",
        MIDNIGHT,
    )


@pytest.mark.parametrize(
    "answer", [{}, {"access_token": ""}, {"access_token": 5}, {"access_token": "a", "scope": None}]
)
def test_an_answer_without_a_token_is_refused(answer: dict[str, Any]) -> None:
    """Rather than that something else is stored in its place."""
    with pytest.raises(PlatformError):
        grant_of_answer(answer, MIDNIGHT)


def test_secrets_are_not_in_the_text_of_a_grant() -> None:
    """A grant that is logged by mistake tells no token."""
    shown = repr(Grant("shpat_secret", refresh_token="shprt_secret"))

    assert "secret" not in shown


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        ((), ["read_products", "write_orders"]),
        (("read_products", "write_orders"), []),
        (("write_products", "write_orders"), []),
        (("read_products", "read_orders"), ["write_orders"]),
        (("xwrite_products", "write_orders"), ["read_products"]),
    ],
)
def test_the_right_to_write_includes_that_to_read(
    granted: tuple[str, ...], missing: list[str]
) -> None:
    """Shopify names only the greater one of the two; the other way round it is missing."""
    assert missing_scopes(("read_products", "write_orders"), granted) == missing
