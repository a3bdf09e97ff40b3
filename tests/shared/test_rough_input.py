"""Rough input at the edges of `shared`: files that cannot be read, values with line breaks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.logs import HumanFormatter
from shared.settings.load import read_environment


def test_an_env_file_that_is_not_text_is_told_by_name(tmp_path: Path) -> None:
    """A `.env` that someone saved in another encoding stops the start in plain words."""
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"ADMIN_TOKEN=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env: cannot be read: it is not UTF-8 text"):
        read_environment(env_file)


def test_a_value_with_a_line_break_stays_on_its_line() -> None:
    """Nobody can forge a log line by putting a line break into a value."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "key %s", ("a\nb\rc",), None)
    record.fields = {"also": "d\ne"}
    assert len(HumanFormatter().format(record).splitlines()) == 1
