"""The name of a shop, before any URL is built from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopify_integration.errors import ShopInvalid
from shopify_integration.shop_domain import is_shop, parse_shop, shop_key, shop_of_key

HANDLES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)

NO_SHOPS = [
    "",
    "-shop",
    "shop.example.com",
    "shop.myshopify.com.example.com",
    "shop.myshopify.com/admin",
    "shop.myshopify.com\n",
    "shop\n",
    " shop",
    "a b",
    "user@shop",
    "shop:443",
    "sub.shop.myshopify.com",
    ".myshopify.com",
    "sh_op",
    "käse",
    "\u017fhop",  # the long s
    "\u212aase",  # the Kelvin sign becomes a k in lower case
    "shop%2eexample",
    "x" * 64,
    "x" * 100_000,
    "../admin",
    "shop?a=b",
    "shop#",
]


@given(handle=HANDLES)
def test_handle_and_domain_are_the_same_shop(handle: str) -> None:
    """Both forms, with capitals too, give the one that is stored, whose key leads back to it."""
    shop = parse_shop(handle)

    assert shop == f"{handle}.myshopify.com"
    assert parse_shop(shop) == parse_shop(shop.upper()) == shop
    assert is_shop(shop)
    assert shop_of_key(shop_key(shop)) == shop
    assert shop_key(shop) == f"{handle}_myshopify_com"


@pytest.mark.parametrize("text", NO_SHOPS)
def test_what_is_no_shop_is_refused(text: str) -> None:
    """No other host, path, port or user gets into a URL this way."""
    with pytest.raises(ShopInvalid):
        parse_shop(text)
    assert not is_shop(text)


@given(text=st.text())
def test_only_full_domains_in_lower_case_are_stored_shops(text: str) -> None:
    """A header or a callback cannot bring in another form of the same name."""
    assert not is_shop(text) or parse_shop(text) == text


@pytest.mark.parametrize("text", ["Shop.myshopify.com", "shop", "shop.myshopify.com\n"])
def test_other_forms_are_no_stored_shops(text: str) -> None:
    """What a person may type is not what a platform sends."""
    assert not is_shop(text)


@pytest.mark.parametrize("key", ["", "shop", "shop_example_com", "a_b_myshopify_com"])
def test_a_key_of_something_else_is_no_shop(key: str) -> None:
    """Rows that the bot did not write are not polled."""
    assert shop_of_key(key) is None
