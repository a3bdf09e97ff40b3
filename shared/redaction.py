"""Keeping what opens doors out of the logs: ours, the HTTP client's, and the server's."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

# The names of OAuth (RFC 6749); those that only a platform has come from it.
_NAMES = ("access[_-]token", "client_secret", "code", "refresh_token", "state")
# `name=value` of a query or form, also of one that is a value of another; `"name": "value"` of
# JSON; `'name': 'value'` and `(b'name', b'value')` as Python writes them.
_PATTERN = (
    r"(?:(?<![\w.])|(?<=%[0-9A-F]{{2}})|(?<=%25[0-9A-F]{{2}}))"
    r"(?P<name>{names})"
    r"(?P<between>=|%(?:25)?3D|\\*[\"']\s*[:,]\s*b?\\*[\"'])"
    r"(?P<value>[^&\s\"'<>\\]+)"
)
_HIDDEN = "[redacted]"
_plain = logging.Formatter()


class _Secrets:
    """What is hidden in this process: logging has one record factory, and this one pattern."""

    pattern: re.Pattern[str]

    @classmethod
    def name(cls, own: Iterable[str]) -> None:
        names = "|".join((*_NAMES, *own))
        cls.pattern = re.compile(_PATTERN.format(names=names), re.IGNORECASE)


_Secrets.name(())


def redact(text: str) -> str:
    """`text` without the values of the fields that must not be logged."""
    return _Secrets.pattern.sub(rf"\g<name>\g<between>{_HIDDEN}", text)


def redact_all_logs(names: Iterable[str] = ()) -> None:
    """From now on, no record of any logger of this process carries such a value.

    `names` are regular expressions of the fields that only a platform has; those of an earlier
    call are replaced. Applied where records are made, so that it holds for every library and
    every handler.
    """
    _Secrets.name(names)
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
