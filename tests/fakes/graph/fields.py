"""The `fields` argument: parsed with its braces and limits, and refused where a name is unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.asked import Json
from tests.fakes.graph.errors import GraphError

# A node's fields: None is a plain value, a mapping has fields of its own.
Known = Mapping[str, "Known | None"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODIFIER = re.compile(r"\.(limit|after|type|width|height)\(([^()]*)\)")


@dataclass(frozen=True)
class Field:
    """One name of `fields`, with what stands behind it."""

    name: str
    modifiers: Mapping[str, str]
    fields: tuple[Field, ...]

    @property
    def limit(self) -> int | None:
        """The number in `name.limit(10)`."""
        given = self.modifiers.get("limit")
        if given is None:
            return None
        if not given.isdigit() or int(given) < 1:
            raise GraphError(100, f"(#100) Param {self.name}.limit must be a positive number")
        return int(given)


def parse(text: str) -> tuple[Field, ...]:
    """The fields that are named; raises the API's syntax error."""
    found, end = _fields(text, 0)
    if end != len(text):
        raise _syntax_error(text, end)
    return found


def _fields(text: str, at: int) -> tuple[tuple[Field, ...], int]:
    found = []
    while True:
        name = _NAME.match(text, at)
        if not name:
            raise _syntax_error(text, at)
        at = name.end()
        modifiers = {}
        while modifier := _MODIFIER.match(text, at):
            modifiers[modifier[1]] = modifier[2]
            at = modifier.end()
        inner: tuple[Field, ...] = ()
        if text[at : at + 1] == "{":
            inner, at = _fields(text, at + 1)
            if text[at : at + 1] != "}":
                raise _syntax_error(text, at)
            at += 1
        found.append(Field(name[0], modifiers, inner))
        if text[at : at + 1] != ",":
            return tuple(found), at
        at += 1


def _syntax_error(text: str, at: int) -> GraphError:
    return GraphError(2500, f'Syntax error "Expected name." at character {at}: {text}')


def check(fields: tuple[Field, ...], known: Known, node: str) -> None:
    """Raise error 100 for the first field that such a node does not have."""
    for field in fields:
        if field.name not in known:
            raise GraphError(
                100,
                f"(#100) Tried accessing nonexisting field ({field.name}) on node type ({node})",
            )
        inner = known[field.name]
        if field.fields and inner is None:
            raise GraphError(
                2500, f"Syntax error: Field {field.name} of node type {node} has no subfields"
            )
        if inner is not None:
            check(field.fields, inner, field.name)


def pick(fields: tuple[Field, ...], values: Mapping[str, Any]) -> Json:
    """The values that were asked for; what a node lacks is left out, as the API does."""
    return {
        field.name: _inside(field, values[field.name])
        for field in fields
        if values.get(field.name) is not None
    }


def _inside(field: Field, value: Any) -> Any:
    if not field.fields or not isinstance(value, Mapping):
        return value
    if "data" in value:
        return {**value, "data": [_inside(field, one) for one in value["data"]]}
    always = {"id": value["id"]} if "id" in value else {}
    return {**pick(field.fields, value), **always}
