"""The examples in documents: fenced blocks, by language."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path


def examples(document: Path, language: str) -> list[str]:
    """The blocks of a document in one language, those in lists included.

    In `sh` is what a test runs; in `bash`, what needs root or Docker, and is only looked at.
    """
    fence = re.compile(rf"^( *)```{language}\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in fence.findall(document.read_text())]


def example_with(document: Path, language: str, words: str) -> str:
    """The one block of a document in a language that has these words in it."""
    (block,) = [block for block in examples(document, language) if words in block]
    return block
