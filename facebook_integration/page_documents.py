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
        self._change(owner, page, key, change)

    def tell(self, owner: str, page: str, customer: str, change: Callable[[Any], Any]) -> None:
        """Change a conversation, which exists once: what it was is kept for a while."""
        key = conversation_key(owner, page, customer)
        self._change(owner, page, key, change, keep_versions=True)

    def read_all_again(self, owner: str, page: str) -> None:
        """Forget how far the conversations of a Page have been read."""
        self._change(owner, page, progress_key(owner, page), lambda _: {})

    def _change(
        self,
        owner: str,
        page: str,
        key: str,
        change: Callable[[Any], Any],
        *,
        keep_versions: bool = False,
    ) -> None:
        with self._data.alone(folder(owner, page)):
            if self._pages.owner(page) == owner:
                self._data.change(key, change, keep_versions=keep_versions)

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
