"""Where the addresses of a platform's settings lead."""

from __future__ import annotations

from shared.settings.platforms import is_local, origin


def test_where_an_address_leads() -> None:
    """Scheme, host and port; and whether that is this host."""
    assert origin("https://bot.example:8443/a/b?c") == "https://bot.example:8443"
    assert is_local("http://127.0.0.1:5000/x")
    assert is_local("http://localhost/")
    assert not is_local("https://localhost.example/")
    assert not is_local("no address")
