"""`Asked`: one request to a stand-in, read once; and `Call`, what is remembered of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request that the bot made, without the control requests of the tests."""

    at: float  # seconds since 1970
    method: str
    path: str
    edge: str  # the name under which faults are programmed
    subject: str | None  # the Page or shop that it is about
    query_names: list[str]
    body_names: list[str]
    token: str | None
    token_in: str | None  # "query", "header" or "body"
    user_agent: str
    status: int  # 0 when no answer was finished
    detail: str | None  # the code of the error, if it was one


@dataclass(frozen=True)
class Asked:
    """A request: its query and its body, whether that came as JSON or as a form."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    doubled: tuple[str, ...]  # names that occur twice in the query
    unreadable: str | None  # why the body could not be read

    @property
    def segments(self) -> list[str]:
        """The parts of the path."""
        return [part for part in self.path.split("/") if part]

    @property
    def arguments(self) -> Json:
        """Query and body as one; what is in both is the body's."""
        return {**self.query, **self.body}

    def call(
        self,
        edge: str,
        subject: str | None,
        token: tuple[str | None, str | None],
        status: int,
        detail: str | None,
    ) -> Call:
        """What is remembered of it."""
        return Call(
            at=time.time(),
            method=self.method,
            path=self.path,
            edge=edge,
            subject=subject,
            query_names=sorted(self.query),
            body_names=sorted(self.body),
            token=token[0],
            token_in=token[1],
            user_agent=self.headers.get("user-agent", ""),
            status=status,
            detail=detail,
        )


async def read(request: Request) -> Asked:
    """The request with its body, which may be absent, JSON, GraphQL, or a urlencoded form."""
    pairs = request.query_params.multi_items()
    names = [name for name, _ in pairs]
    raw = await request.body()
    body, unreadable = _body(raw, request.headers.get("content-type", ""))
    return Asked(
        method=request.method,
        path=request.url.path,
        query=dict(pairs),
        body=body,
        headers=request.headers,
        doubled=tuple(sorted({name for name in names if names.count(name) > 1})),
        unreadable=unreadable,
    )


def _body(raw: bytes, content_type: str) -> tuple[Json, str | None]:
    if not raw:
        return {}, None
    kind = content_type.split(";", maxsplit=1)[0].strip().lower()
    try:
        if kind == "application/json":
            read = json.loads(raw)
            return (read, None) if isinstance(read, dict) else ({}, "the JSON is not an object")
        if kind == "application/graphql":
            return {"query": raw.decode()}, None
        if kind == "application/x-www-form-urlencoded":
            pairs = parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=True)
            return dict(pairs), None
    except ValueError as error:
        return {}, str(error)
    return {}, f"no body of the type {kind or 'unknown'} is understood"
