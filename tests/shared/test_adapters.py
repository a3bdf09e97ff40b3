"""The readers that pydantic makes: one for each type, and never two at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared import adapters
from shared.adapters import adapter_of


class Slow:
    """A reader whose making takes long enough for another thread to come, and which notes it."""

    making = 0
    most = 0
    made: list[Any] = []  # noqa: RUF012 - one list of all
    go = threading.Event()

    def __init__(self, kind: Any) -> None:
        Slow.making += 1
        Slow.most = max(Slow.most, Slow.making)
        Slow.go.wait(0.05)
        Slow.made.append(kind)
        Slow.making -= 1


def test_two_threads_never_build_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four threads ask for three types: each is made once, one after the other."""
    monkeypatch.setattr(adapters, "TypeAdapter", Slow)
    monkeypatch.setattr(adapters, "_built", {})
    asked: list[type] = [int, str, bytes, int]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(adapter_of, asked))
    assert Slow.most == 1
    assert sorted(kind.__name__ for kind in Slow.made) == ["bytes", "int", "str"]
    assert found[0] is found[3]
