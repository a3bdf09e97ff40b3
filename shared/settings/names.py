"""Names that no setting has: which stop the start, and which are only named. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from shared.settings.given import GivenName, GivenSettings

# What begins so is ours, wherever it stands; COPY_ is reserved.
STRICT_PREFIXES = ("BACKUP_", "SPACES_", "COPY_")
_MOST_EDITS = 2

# Kubernetes and Docker give a container names of this form for each service beside it, such as one
# that is called `backup`. kubernetes.io/docs/concepts/services-networking/service, "Environment
# variables".
_OF_A_SERVICE = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
# tar and cp of macOS read it.
_FOREIGN = {"COPY_EXTENDED_ATTRIBUTES_DISABLE"}


@dataclass(frozen=True)
class UnknownName:
    """A name that no setting has, where it was given, and the setting that may be meant."""

    name: str
    place: str
    likely: str | None

    @property
    def message(self) -> str:
        """What is wrong, in one sentence."""
        return f"{self.name} ({self.place}) is not a setting, so it has no effect"

    @property
    def hint(self) -> str:
        """What to do."""
        likely = f"Is {self.likely} meant? " if self.likely else ""
        return f"{likely}Correct or remove it; docs/settings.md has all names."


def misspelt(given: GivenSettings, known: Collection[str]) -> Iterator[UnknownName]:
    """The names that are near a setting of `STRICT_PREFIXES`, in `.env` or the environment."""
    ours = [name for name in sorted(known) if name.startswith(STRICT_PREFIXES)]
    words = {name.partition("_")[0] for name in ours}
    for one in _unknown(given, known):
        name = _spelt(one)
        word = name.partition("_")[0]
        if any(distance(word, other, most=1) <= 1 for other in words):
            near = [(_edits(name, other), other) for other in ours]
            edits, likely = min(near, default=(_MOST_EDITS + 1, ""))
            if edits <= _MOST_EDITS:
                yield UnknownName(one.name, one.place, likely)


def unknown_names(given: GivenSettings, known: Collection[str]) -> Iterator[UnknownName]:
    """The other names that look like ours: of `STRICT_PREFIXES`; in `.env`, of every family of
    settings, or near a setting."""
    families = {f"{name.partition('_')[0]}_" for name in known if "_" in name}
    for one in _unknown(given, known):
        name = _spelt(one)
        (likely,) = difflib.get_close_matches(name, sorted(known), 1, 0.8) or (None,)
        if name.startswith(STRICT_PREFIXES) or (
            one.line is not None and (name.startswith(tuple(families)) or likely)
        ):
            yield UnknownName(one.name, one.place, likely)


def _unknown(given: GivenSettings, known: Collection[str]) -> Iterator[GivenName]:
    for one in given.everything():
        foreign = one.line is None and (one.name in _FOREIGN or _OF_A_SERVICE.fullmatch(one.name))
        if one.name not in known and not foreign:
            yield one


def _spelt(one: GivenName) -> str:
    """The name to compare: `.env` is ours, so case does not matter there."""
    return one.name if one.line is None else one.name.upper()


def _edits(name: str, known: str) -> int:
    """How many edits lead from one to the other; any number of S at the ends of words are one."""
    if _singular(name) == _singular(known):
        return 1
    return distance(name, known, most=_MOST_EDITS)


def _singular(name: str) -> list[str]:
    return [word.removesuffix("S") for word in name.split("_")]


def distance(left: str, right: str, *, most: int) -> int:
    """How many letters must be added, removed, replaced or swapped; `most` + 1 for more."""
    if abs(len(left) - len(right)) > most:
        return most + 1
    above: list[int] = []
    row = list(range(len(right) + 1))
    for i, letter in enumerate(left, 1):
        above, before, row = row, above, [i]
        for j, other in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other))
            if before and j > 1 and letter == right[j - 2] and left[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
    return min(row[-1], most + 1)
