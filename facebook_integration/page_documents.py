"""`PageDocuments`: the documents of a Page in the store, changed only while it is its user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from facebook_integration.pages import Pages
from shared.merchants.documents import MerchantData, user_folder


class PageDocuments:
    """Raises `StoreError` and `DatabaseError`."""

    def __init__(self, data: MerchantData, pages: Pages) -> None:
        self._data = data
        self._pages = pages

    def change(self, owner: str, page: str, key: str, change: Callable[[Any], Any]) -> None:
        """Change a document of a Page, if the Page is still this user's."""
        with self._data.alone(folder(owner, page)):
            if self._pages.owner(page) == owner:
                self._data.change(key, change)

    def read(self, key: str) -> Any:
        """A document, or None."""
        return self._data.read(key)

    def conversations(self, owner: str, page: str) -> int:
        """How many conversations of a Page are stored."""
        return len(self._data.keys(f"{folder(owner, page)}conversations/"))

    def forget(self, owner: str, page: str) -> None:
        """Delete all of a Page, and whose it was."""
        with self._data.alone(folder(owner, page)):
            self._data.remove_all(folder(owner, page))
            self._pages.forget(page)


def folder(owner: str, page: str) -> str:
    """How the keys of a Page's documents begin."""
    return f"{user_folder(owner)}facebook/{page}/"


def page_key(owner: str, page: str) -> str:
    """The key of a Page's metadata."""
    return f"{folder(owner, page)}page_metadata.json"


def conversation_key(owner: str, page: str, customer: str) -> str:
    """The key of a conversation."""
    return f"{folder(owner, page)}conversations/{customer}.json"


def progress_key(owner: str, page: str) -> str:
    """The key of how far the conversations of a Page have been read."""
    return f"{folder(owner, page)}conversations_read.json"
