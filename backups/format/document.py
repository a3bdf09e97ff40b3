"""What each document of the store has to be before it is looked at, whoever wrote it. Pure.

`docs/format.md` has the table of limits. They are far above what this program writes, and so low
that reading any document takes a few megabytes of memory.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from backups.errors import ManifestInvalid
from shared.printable import printable
from shared.words import counted

_Read = TypeVar("_Read")

MOST_BYTES = 1_000_000
MOST_VALUES = 10_000  # of all objects and lists in it
MOST_NESTED = 16


@dataclass(frozen=True)
class Limits:
    """How large a document may be: its bytes, and the values of all objects and lists in it."""

    bytes: int = MOST_BYTES
    values: int = MOST_VALUES


ORDINARY = Limits()
PACK_INDEX = Limits(2_000_000, 30_000)  # of 4,096 members (`backups/format/pack.py`)


def read_object(
    document: bytes, *, fractions: bool = False, limits: Limits = ORDINARY
) -> dict[str, Any]:
    """The JSON object in a document; raises `ValueError` for anything else.

    So for a name that stands twice, `NaN`, and what is above a limit. Numbers that are not whole
    are refused, too, unless `fractions` are allowed.
    """
    if fractions:  # few have any: so one reading serves whoever checks the mark, too
        with suppress(ValueError):
            return dict(_read_object(document, limits, fractions=False))
    return dict(_read_object(document, limits, fractions=fractions))


@lru_cache(maxsize=1)  # whoever checks the mark of a document reads it next
def _read_object(document: bytes, limits: Limits, *, fractions: bool) -> dict[str, Any]:
    if len(document) > limits.bytes:
        raise ValueError(f"it has {len(document):,} bytes, and a document at most {limits.bytes:,}")
    try:
        found = json.loads(
            document,
            object_pairs_hook=_once,
            parse_float=float if fractions else _refuse,
            parse_constant=_refuse,
        )
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_NESTED} deep") from None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - one kind of error for bad input
    brackets = document.count(b"[") + document.count(b"{")
    if len(document) > limits.values or brackets > MOST_NESTED:  # fewer cannot be too much
        _refuse_much(found, limits.values)
    return found


def read_as(
    adapter: TypeAdapter[_Read],
    document: bytes,
    what: str,
    hint: str,
    *,
    fractions: bool = True,
    limits: Limits = ORDINARY,
) -> _Read:
    """The document as a record; raises `ManifestInvalid`, which names it as `what`."""
    try:
        read_object(document, fractions=fractions, limits=limits)
        return adapter.validate_json(document, strict=True)
    except ValidationError as error:
        fault = first_fault(error)
    except ValueError as error:
        fault = printable(str(error), 200)
    raise ManifestInvalid(f"{what} cannot be read: {fault}", hint)


def first_fault(error: ValidationError) -> str:
    """The first of many faults, and where it is, in one short line.

    The list of all (`errors`) would take several kilobytes of memory for each.
    """
    faults = error.json(include_url=False, include_input=False, include_context=False)
    first, _ = json.JSONDecoder().raw_decode(faults, 1)
    where = printable(".".join(str(part) for part in first["loc"]), 80)  # it has names of others
    return printable(f"{where}: {first['msg']}" if where else str(first["msg"]), 200)


def _refuse_much(found: dict[str, Any], most: int) -> None:
    values = 0
    level: list[dict[str, Any] | list[Any]] = [found]
    for _ in range(MOST_NESTED):
        below = []
        for one in level:
            values += len(one)
            below += [
                value
                for value in (one.values() if isinstance(one, dict) else one)
                if isinstance(value, dict | list)
            ]
        if values > most:
            raise ValueError(f"it has more than {counted(most, 'value')}")
        level = below
        if not level:
            return
    raise ValueError(f"it is nested more than {MOST_NESTED} deep")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"not a whole number: {text[:20]}")
