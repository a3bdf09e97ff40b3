"""Problem documents (RFC 9457): what a script reads when something was refused or failed."""

from __future__ import annotations

from typing import Any

from shared.errors import AppError


def problem_document(
    status: int, title: str, detail: str, code: str, hint: str, **more: object
) -> dict[str, Any]:
    """A problem document."""
    return {
        "type": f"urn:backup:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        **more,
    }


def error_document(status: int, title: str, error: AppError) -> dict[str, Any]:
    """The problem document of an error, with what the error adds to it."""
    return problem_document(
        status, title, error.message, error.code, error.hint, **error.particulars()
    )
