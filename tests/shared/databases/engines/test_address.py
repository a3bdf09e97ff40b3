"""`DATABASE_URL`: what is refused before anything connects."""

from __future__ import annotations

import pytest

from shared.databases.engines.address import parse_address

LOCAL = "postgresql://bot@127.0.0.1:5432/bot"


@pytest.mark.parametrize(
    "url",
    [
        LOCAL,
        "postgres://bot:secret@localhost/bot",
        "postgresql://bot@/bot?host=/run/postgresql",
        "postgresql://bot@[::1]:5432/bot",
        "postgresql://bot:p%40ss@db.example.com:25060/bot?sslmode=require",
        "postgresql://bot@db.example.com/bot?sslmode=verify-full&sslrootcert=/etc/ca.crt",
        "postgresql://bot@a.example.com:5432,b.example.com:5433/bot?sslmode=verify-ca",
    ],
)
def test_a_usable_address_is_taken_as_it_is(url: str) -> None:
    """Here without TLS, elsewhere with it."""
    assert parse_address(url).url == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://bot@127.0.0.1/bot", "begins with mysql:"),
        ("sqlite:///data/tokens.db", "begins with sqlite:"),
        ("127.0.0.1/bot", "no scheme"),
        ("postgresql://bot@127.0.0.1", "names no database"),
        ("postgresql://bot@127.0.0.1:port/bot", "is no URL"),
        ("postgresql://bot@[::1/bot", "is no URL"),
        ("postgresql://bot@127.0.0.1/bot?sslmode", "is no URL"),
        ("postgresql://bot@db.example.com/bot", "another host (db.example.com)"),
        ("postgresql://bot@db.example.com/bot?sslmode=prefer", "unencrypted"),
        ("postgresql://bot@localhost,db.example.com/bot", "another host (db.example.com)"),
        ("postgresql://bot@/bot?host=db.example.com", "another host (db.example.com)"),
        ("postgresql://bot@localhost/bot?hostaddr=192.0.2.1", "another host (192.0.2.1)"),
    ],
)
def test_another_address_is_refused_by_name(url: str, why: str) -> None:
    """Each with what is wrong."""
    with pytest.raises(ValueError) as refused:
        parse_address(url)
    assert why in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql://bot:sesame@db.example.com:x/bot", "x:sesame@y"])
def test_no_refusal_repeats_the_password(url: str) -> None:
    """Nor does what may be shown of an address."""
    with pytest.raises(ValueError) as refused:
        parse_address(url)
    assert "sesame" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert "sesame" not in repr(parse_address("postgresql://bot:sesame@127.0.0.1:5433/bot"))
    assert parse_address("postgresql://bot:sesame@127.0.0.1:5433/bot").place == (
        "bot at 127.0.0.1:5433"
    )
