"""Names and texts as they were given, and where each was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.settings.env_lines import EnvLine


@dataclass(frozen=True)
class GivenName:
    """A name that has a text: in `.env` at that line, or in the environment (`line` is None)."""

    name: str
    text: str
    line: int | None = None

    @property
    def place(self) -> str:
        """Where it was given, for a message."""
        return "in the environment" if self.line is None else f"on line {self.line} of .env"


class GivenSettings(Mapping[str, str]):
    """The environment over the lines of `.env`, as name -> text; blank texts count as unset."""

    def __init__(self, environment: Mapping[str, str], lines: Sequence[EnvLine] = ()) -> None:
        by_name = {line.name: line for line in lines}  # of two lines the later one counts
        self._from_file = [
            GivenName(line.name, line.text, line.number)
            for line in by_name.values()
            if line.text.strip()
        ]
        self._from_environment = [
            GivenName(name, text) for name, text in environment.items() if text.strip()
        ]
        self._found = {one.name: one for one in self.everything()}

    def everything(self) -> Iterator[GivenName]:
        """Each name of the file, then each of the environment, also where both have it."""
        yield from self._from_file
        yield from self._from_environment

    def place(self, name: str) -> str:
        """Where the text of `name` comes from, for a message."""
        return self._found[name].place if name in self._found else "by default"

    def __getitem__(self, name: str) -> str:
        return self._found[name].text

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
