"""Logging: one line per event for a person, or one JSON object per line for a machine."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from shared.clock import format_utc
from shared.files import make_private_directory
from shared.printable import printable, printable_lines
from shared.redaction import RedactingFormatter, redact_all_logs

LogFormat = Literal["human", "json"]

_LOGGERS = ("app", "backups", "shared")
# What those have to say that we use: warnings, in our format.
_THIRD_PARTY = (
    "apprise",
    "apscheduler",
    "asyncio",
    "boto3",
    "botocore",
    "concurrent",
    "urllib3",
)
_UVICORN = ("uvicorn", "uvicorn.access")
_LOG_FILE_BYTES = 1_000_000
_LOG_FILES_KEPT = 5


def fields(**values: object) -> dict[str, Any]:
    """The `extra` of a log call: named values that the formatters print after the message."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


_run_id: ContextVar[str | None] = ContextVar("run_id", default=None)


@contextmanager
def lines_of_run(run_id: str) -> Iterator[None]:
    """Put `run=<id>` into every line that is logged inside the block, by whatever part.

    A thread that is started inside has it too if it runs in `contextvars.copy_context()`.
    """
    token = _run_id.set(run_id)
    try:
        yield
    finally:
        _run_id.reset(token)


class HumanFormatter(logging.Formatter):
    """`2026-11-22T01:00:00Z INFO backups.tokens: stored key=backups/tokens_2026-11-22.db`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line whatever is in the values, with a traceback below it when there is one."""
        named = " ".join(f"{name}={value}" for name, value in _fields_of(record).items())
        line = f"{_time_of(record)} {record.levelname} {record.name}: {record.getMessage()}"
        line = printable(f"{line} {named}".rstrip())
        if not record.exc_info:
            return line
        return f"{line}\n{printable_lines(self.formatException(record.exc_info))}"


class JsonFormatter(logging.Formatter):
    """One JSON object with `time`, `level`, `logger`, `message` and the named values."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        document = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def configure_logging(
    log_format: LogFormat,
    stream: TextIO | None = None,
    level: int = logging.INFO,
    *,
    packages: Iterable[str] = (),
    secret_names: Iterable[str] = (),
) -> None:
    """Send our loggers' lines to `stream` (standard error); calling again replaces the handler.

    As JSON, those of the server too; for a person it has a format of its own. From then on
    the logs of the whole process are redacted, the server's included. `packages` are more
    loggers of ours, and `secret_names` more names to redact: those of the platforms.
    """
    redact_all_logs(secret_names)
    for name in (*_UVICORN, "uvicorn.error"):
        for server_handler in logging.getLogger(name).handlers:
            if not isinstance(server_handler.formatter, RedactingFormatter):
                # Its tracebacks may hold an address.
                inner = server_handler.formatter or logging.Formatter()
                server_handler.setFormatter(RedactingFormatter(inner))
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(log_format))
    levels = dict.fromkeys((*_LOGGERS, *packages), level)
    levels.update({name: max(level, logging.WARNING) for name in _THIRD_PARTY})
    if log_format == "json":
        levels.update(dict.fromkeys(_UVICORN, level))
    for name, least in levels.items():
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        if name not in _UVICORN or not logger.level:  # `uvicorn --log-level` is the user's word
            logger.setLevel(least)
        logger.propagate = False


@contextmanager
def log_files(directory: Path | None, loggers: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Write lines also to rotating 0600 files: `loggers` has file names and, for each, loggers.

    The files are open only inside the block. Held under a lock, that makes rotation safe
    with several processes: no other one keeps a descriptor of the file that moves away.
    """
    with ExitStack() as stack:
        if directory is not None:
            try:
                for file_name, names in loggers.items():
                    _add_log_file(stack, directory / file_name, names)
            except OSError as error:
                # A log that cannot be written must not cost the backup it would tell of.
                logging.getLogger(__name__).warning(
                    "log files cannot be written: %s", error.strerror, extra=fields(path=directory)
                )
        yield


def _add_log_file(stack: ExitStack, path: Path, names: Sequence[str]) -> None:
    make_private_directory(path.parent)
    handler = _PrivateRotatingFileHandler(
        path, maxBytes=_LOG_FILE_BYTES, backupCount=_LOG_FILES_KEPT
    )
    stack.callback(handler.close)
    handler.setFormatter(_formatter("human"))
    for name in names:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        stack.callback(logger.removeHandler, handler)


class _PrivateRotatingFileHandler(logging.handlers.RotatingFileHandler):
    def _open(self) -> Any:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(self.baseFilename, self.mode, encoding="utf-8", opener=opener)


def _formatter(log_format: LogFormat) -> logging.Formatter:
    return RedactingFormatter(JsonFormatter() if log_format == "json" else HumanFormatter())


def _fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(record, "fields", {})
    run_id = _run_id.get()
    return {**found, "run": found.get("run", run_id)} if run_id else found


def _time_of(record: logging.LogRecord) -> str:
    return format_utc(datetime.fromtimestamp(int(record.created), UTC))
