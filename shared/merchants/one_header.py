"""Reading a header that means something only when it comes once."""

from __future__ import annotations

from fastapi import Request


def one_header(request: Request, name: str) -> str | None:
    """The value of a header; None when it is absent, or came twice.

    Of two values, another program on the way may have looked at the other one.
    """
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else None
