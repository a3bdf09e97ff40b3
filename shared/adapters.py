"""Pydantic's reader of a type, built once and never by two threads at a time. Pure."""

from __future__ import annotations

from threading import RLock
from typing import Any, TypeVar

from pydantic import TypeAdapter

_Kind = TypeVar("_Kind")

_building = RLock()
_built: dict[Any, TypeAdapter[Any]] = {}


def adapter_of(kind: type[_Kind]) -> TypeAdapter[_Kind]:
    """The reader and writer of `kind`, made at its first use: some milliseconds.

    Pydantic does not promise that building may happen in two threads at once, and has had
    errors there: https://github.com/pydantic/pydantic/issues/11849 and 13419.
    """
    with _building:
        if kind not in _built:
            _built[kind] = TypeAdapter(kind)
        return _built[kind]
