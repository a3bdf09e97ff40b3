"""The lines of `.env`: what each says, and which of them cannot be what was meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import StringIO

from dotenv.parser import Binding, parse_stream

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,49}")
_QUOTED = re.compile(r"[^=\n]*=[^\S\n]*['\"]")


@dataclass(frozen=True)
class EnvLine:
    """A name, its text without the quotes around it, and the number of its line."""

    name: str
    text: str
    number: int


def read_lines(content: str) -> tuple[tuple[EnvLine, ...], tuple[str, ...]]:
    """The lines of a `.env` that give a name a text, and a fault for each that cannot be meant so.

    python-dotenv reads on after a line that it cannot parse, and a quote that is not closed ends at
    the next one, however many lines below: both are faults here, and so are a name without `=`, and
    a name that gets two texts. No fault repeats a text: it may be a secret.
    """
    lines: list[EnvLine] = []
    faults: list[str] = []
    earlier: dict[str, EnvLine] = {}
    for binding in parse_stream(StringIO(content)):
        # A binding begins with the blank lines above it.
        source = binding.original.string.lstrip()
        number = binding.original.line + binding.original.string[: -len(source) or None].count("\n")
        source = source.rstrip()
        if fault := _fault_of(binding, source):
            faults.append(f"line {number}{fault}")
        elif binding.key is not None:
            line = EnvLine(binding.key, binding.value or "", number)
            lines.append(line)
            before = earlier.setdefault(line.name, line)
            # What was blank was unset, and nothing is lost when a later line sets it.
            if before.text.strip() and before.text != line.text:
                faults.append(
                    f"line {number}{_named(line.name)}: line {before.number} gives the same name "
                    "another value; remove one of them"
                )
            earlier[line.name] = line
    return tuple(lines), tuple(faults)


def _fault_of(binding: Binding, source: str) -> str | None:
    name = _named(binding.key or source.partition("=")[0].removeprefix("export").strip())
    if "\n" in source:
        lines = source.count("\n") + 1
        return f"{name}: its value goes over {lines} lines; close its quote on the same line"
    if binding.error:
        if _QUOTED.match(source):
            return f"{name}: its quote is not closed on the same line, or text follows it"
        return ": cannot be parsed; write NAME=value"
    if binding.key is not None and binding.value is None:
        return f"{name}: has no `=`; write NAME=value"
    return None


def _named(key: str) -> str:
    """A name for a fault, if it looks like one: what stands there may be a piece of a secret."""
    return f", {key}" if _NAME.fullmatch(key) and "_" in key else ""
