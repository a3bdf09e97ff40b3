"""What routes read from the request themselves, in the words of OpenAPI."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}


def query(*names: str) -> list[dict[str, Any]]:
    """Parameters of the query; which of them are there is part of what the route checks."""
    return [{"in": "query", "name": name, "required": False, "schema": _TEXT} for name in names]


def signed_json(*headers: str) -> dict[str, Any]:
    """A JSON body with headers, the first of which signs it."""
    return {
        "parameters": [
            {"in": "header", "name": name, "required": not number, "schema": _TEXT}
            for number, name in enumerate(headers)
        ],
        "requestBody": _body("application/json", {"type": "object"}),
    }


def signed_form() -> dict[str, Any]:
    """A form with the one field `signed_request`."""
    schema = {
        "type": "object",
        "properties": {"signed_request": _TEXT},
        "required": ["signed_request"],
    }
    return {"requestBody": _body("application/x-www-form-urlencoded", schema)}


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": schema}}}
