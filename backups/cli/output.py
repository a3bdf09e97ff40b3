"""What a command writes: text of ours, and in it texts from outside."""

from __future__ import annotations

import json
from typing import Any, TextIO

from shared.printable import printable_lines


def show(text: str = "", file: TextIO | None = None) -> None:
    """Write lines to `file` (standard output): a terminal shows every character, and obeys none."""
    print(printable_lines(text), file=file)


def print_json(document: dict[str, Any]) -> None:
    """The one document of `--json`."""
    show(json.dumps(document, indent=2))
