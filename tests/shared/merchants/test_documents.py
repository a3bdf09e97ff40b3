"""The merchants' documents: merged, and written only when they changed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StoreError
from shared.merchants.documents import MerchantData, canonical, user_folder
from shared.store.directory import DirectoryStore
from tests.support.clock import FixedClock

KEY = "users/1/shopify/shop/shop_metadata.json"


class CountingStore(DirectoryStore):
    """A folder that remembers what was written to it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written: list[str] = []

    def replace(self, key: str, body: bytes) -> None:
        self.written.append(key)
        super().replace(key, body)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    """An empty folder."""
    return CountingStore(tmp_path / "store")


def stored(store: DirectoryStore, key: str = KEY) -> bytes:
    """The bytes of a document."""
    return (Path(store.location) / key).read_bytes()


def test_only_what_changed_is_written(store: CountingStore) -> None:
    """Another order of names, or of reading it, is no change."""
    data = MerchantData(store, FixedClock())

    assert data.change(KEY, lambda _: {"a": 1, "ä": [1, {"c": 2, "b": 1}]}) is True
    assert data.change(KEY, lambda _: {"ä": [1, {"b": 1, "c": 2}], "a": 1}) is False
    assert data.change(KEY, lambda before: before) is False
    assert store.written == [KEY]

    assert data.change(KEY, lambda before: {**before, "a": 2}) is True
    assert store.written == [KEY, KEY]
    assert stored(store) == '{"a":2,"ä":[1,{"b":1,"c":2}]}'.encode()


def test_a_document_in_another_form_stays_as_it_is(store: CountingStore) -> None:
    """Somebody formatted it: that is the same document."""
    store.replace(KEY, b'{\n  "b": 1,\n  "a": 2\n}\n')
    store.written.clear()

    assert MerchantData(store, FixedClock()).change(KEY, dict) is False
    assert store.written == []


@pytest.mark.parametrize("body", [b"", b"no JSON", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_made_anew(store: CountingStore, body: bytes) -> None:
    """A broken document is none; the next change puts it right."""
    store.replace(KEY, body)
    data = MerchantData(store, FixedClock())

    assert data.read(KEY) is None
    assert data.change(KEY, lambda before: [before]) is True
    assert data.read(KEY) == [None]


def test_changes_of_one_document_come_one_after_the_other(store: CountingStore) -> None:
    """Of many at the same time none is lost."""
    data = MerchantData(store, FixedClock())

    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda number: data.change(KEY, lambda before: sorted([*(before or []), number])),
                range(40),
            )
        )

    assert data.read(KEY) == list(range(40))


def test_a_failing_store_is_no_empty_document(tmp_path: Path) -> None:
    """What cannot be read is not made anew: the error comes out, and nothing is written."""

    class Failing(CountingStore):
        def get(self, key: str, *_: Any) -> None:
            raise StoreError("the store failed")

    store = Failing(tmp_path / "store")

    with pytest.raises(StoreError):
        MerchantData(store, FixedClock()).change(KEY, lambda _: {})

    assert store.written == []


def test_all_of_a_folder_is_removed_and_nothing_else(store: CountingStore) -> None:
    """`users/1/` is not the beginning of `users/10/`."""
    data = MerchantData(store, FixedClock())
    for key in ("users/1/a.json", "users/1/b/c.json", "users/10/a.json"):
        data.change(key, lambda _: {})

    assert data.remove_all("users/1/") == 2
    assert data.remove_all("users/1/") == 0
    assert [one.key for one in store.list("users/")] == ["users/10/a.json"]
    with pytest.raises(AssertionError):
        data.remove_all("users/1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(document=JSON | st.just({"half of an emoji": "\ud83d"}))
def test_the_canonical_text_is_the_document(document: Any) -> None:
    """It reads back, and the same document has the same bytes however its names are ordered."""
    text = canonical(document)

    assert json.loads(text) == document
    assert canonical(json.loads(text)) == text
    if isinstance(document, dict):
        assert canonical(dict(reversed(document.items()))) == text


@pytest.mark.parametrize("user", ["", "../x", "a/b", "-a", "a" * 65, "ä", "a\n"])
def test_a_folder_is_only_made_of_a_user_id(user: str) -> None:
    """Whatever stands in a database does not lead elsewhere."""
    with pytest.raises(ValueError):
        user_folder(user)


def test_a_users_folder_ends_with_a_slash() -> None:
    """So that one user's is not the beginning of another's."""
    assert user_folder("5e0f-1") == "users/5e0f-1/"
