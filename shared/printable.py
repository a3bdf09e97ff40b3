"""Text from outside, made safe to show: on a terminal, in a log, in a message, on a page. Pure.

A terminal obeys the characters of an escape sequence, and a bidirectional mark lets a text look
like another one. So what Unicode calls a control, a format, an unassigned character or a separator
(`str.isprintable`) is shown as Python writes it: `\\x1b`, `\\u202e`.
"""

from __future__ import annotations


def printable(text: str, most: int | None = None) -> str:
    """`text` in one line of printable characters; of more than `most`, the beginning and `…`."""
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    shown = text if text.isprintable() else "".join(map(_shown, text))
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def printable_lines(text: str) -> str:
    """The same of a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
