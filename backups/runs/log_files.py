"""The logger and the log file of each source."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from shared.logs import log_files


def source_log(source: str) -> logging.Logger:
    """The logger of one source."""
    return logging.getLogger(f"backups.{source}")


def open_log_files(folder: Path | None, sources: Iterable[str]) -> AbstractContextManager[None]:
    """The log file of each source, open inside the block; needs the run lease."""
    return log_files(
        folder, {f"backup_{name}.log": ("backups.run", f"backups.{name}") for name in sources}
    )
