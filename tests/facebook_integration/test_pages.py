"""What is stored for a Page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.fernet import Fernet

from facebook_integration import pages
from facebook_integration.models import GrantedPage, Grantor, page_token_of_text
from facebook_integration.pages import Pages
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.merchants.errors import TokenRefused
from tests.support.clock import MIDNIGHT

USER = str(UUID(int=1))
GRANTOR = Grantor("user-token", USER, ("17",), None, MIDNIGHT)


class Granting:
    """A Graph that has a new token for the Page; something happens while it is asked."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def granted_page(self, page: str, token: str, _attempts: int) -> GrantedPage:
        assert (page, token) == ("17", GRANTOR.token)
        self.meanwhile()
        return GrantedPage("17", "Käsehaus", "renewed")


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenStorage]:
    """An empty database."""
    cipher = TokenCipher((Fernet.generate_key().decode(),))
    with closing(TokenStorage(tmp_path / "tokens.db", cipher)) as storage:
        yield storage


def connected(tokens: TokenStorage, graph: Granting) -> Pages:
    """One Page, with a token that Meta refuses."""
    known = Pages(tokens, graph)  # type: ignore[arg-type]
    known.connect("9", GRANTOR, [GrantedPage("17", "Käsehaus", "refused")])
    return known


def stored(tokens: TokenStorage) -> str:
    """The token of the Page that is stored."""
    return page_token_of_text(tokens.get("FACEBOOK_ACCESS_TOKEN_17") or "").value


def use(known: Pages) -> str:
    """Ask the Page something; the token that it was asked with."""

    def ask(token: str) -> str:
        if token == "refused":
            raise TokenRefused("expired")
        return token

    return known.with_token("17", ask)


def test_a_refused_token_is_replaced(tokens: TokenStorage) -> None:
    """By what the user who granted it gets now; it is stored."""
    known = connected(tokens, Granting())

    assert use(known) == "renewed"
    assert stored(tokens) == "renewed"


def test_a_renewal_does_not_bring_back_what_was_deleted(tokens: TokenStorage) -> None:
    """The person removed the app while Meta was asked."""
    graph = Granting()
    known = connected(tokens, graph)

    def remove() -> None:
        known.disconnect("9")

    graph.meanwhile = remove

    with pytest.raises(TokenRefused):
        use(known)

    assert tokens.get("FACEBOOK_ACCESS_TOKEN_17") is None


def test_a_renewal_does_not_overwrite_a_new_login(tokens: TokenStorage) -> None:
    """The merchant logged in while Meta was asked: that token is kept, and used."""
    graph = Granting()
    known = connected(tokens, graph)
    graph.meanwhile = lambda: known.connect("9", GRANTOR, [GrantedPage("17", "Käsehaus", "new")])

    assert use(known) == "new"
    assert stored(tokens) == "new"


def test_the_names_of_keys_are_fixed() -> None:
    """The keys are in people's databases already: their form does not change."""
    assert pages.FACEBOOK_USER_ACCESS_TOKEN == "FACEBOOK_USER_ACCESS_TOKEN"
    assert pages.facebook_user_access_token_key("9") == "FACEBOOK_USER_ACCESS_TOKEN_9"
    assert pages.facebook_access_token_key("17") == "FACEBOOK_ACCESS_TOKEN_17"
    assert pages.page_uuid_key("17") == "PAGE_UUID_17"
