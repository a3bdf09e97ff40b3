"""Keeping what opens doors out of the logs: ours, the HTTP client's, and the server's."""

from __future__ import annotations

import logging
import re
from typing import Any

_NAMES = (
    "access[_-]token",
    "appsecret_proof",
    "client_secret",
    "code",
    "fb_exchange_token",
    "hmac",
    r"(?:hub(?:\.|%2E))?verify_token",
    "input_token",
    "refresh_token",
    "signed_request",
    "state",
)
# `name=value` of a query or form, also of one that is a value of another; `"name": "value"` of
# JSON; `'name': 'value'` and `(b'name', b'value')` as Python writes them.
_SECRET = re.compile(
    r"(?:(?<![\w.])|(?<=%[0-9A-F]{2})|(?<=%25[0-9A-F]{2}))"
    r"(?P<name>" + "|".join(_NAMES) + r")"
    r"(?P<between>=|%(?:25)?3D|\\*[\"']\s*[:,]\s*b?\\*[\"'])"
    r"(?P<value>[^&\s\"'<>\\]+)",
    re.IGNORECASE,
)
_HIDDEN = "[redacted]"
_plain = logging.Formatter()


def redact(text: str) -> str:
    """`text` without the values of the fields that must not be logged."""
    return _SECRET.sub(rf"\g<name>\g<between>{_HIDDEN}", text)


def redact_all_logs() -> None:
    """From now on, no record of any logger of this process carries such a value.

    Applied where records are made, so that it holds for every library and every handler.
    """
    if logging.getLogRecordFactory() is not RedactedRecord:
        logging.setLogRecordFactory(RedactedRecord)


class RedactedRecord(logging.LogRecord):
    """A record whose message, arguments and traceback are redacted, whoever formats it."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        # uvicorn's access log formats the arguments itself.
        if isinstance(self.args, tuple):
            self.args = tuple(_redact_argument(value) for value in self.args)
        # Formatters take this text if it is there; a handler that is not ours has no other one.
        if self.exc_info and self.exc_info[0]:
            self.exc_text = redact(_plain.formatException(self.exc_info))

    def getMessage(self) -> str:  # noqa: N802 - the name is logging's
        """The message, after its arguments were put in."""
        return redact(super().getMessage())


class RedactingFormatter(logging.Formatter):
    """Redacts all that another formatter makes, tracebacks included."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The other's text, redacted."""
        return redact(self._inner.format(record))


def _redact_argument(value: object) -> object:
    if isinstance(value, int | float | bool | type(None)):
        return value
    text = str(value)
    hidden = redact(text)
    return value if hidden == text else hidden
