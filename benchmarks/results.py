"""`Measure` and `Results`: what was measured, and its JSON document."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 2


@dataclass(frozen=True)
class Measure:
    """One quantity of one contender at one size, with the value of each run.

    `megabytes` is the size of tokens.db (sessions.db has a fifth of it), 0 where there is none.
    """

    topic: str
    megabytes: float
    who: str
    what: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The largest."""
        return max(self.values)


@dataclass
class Results:
    """All that one run of the benchmark has found, in order."""

    command: str
    host: str
    versions: Mapping[str, str]
    measures: list[Measure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        topic: str,
        megabytes: float,
        who: str,
        what: str,
        unit: str,
        values: Iterable[float],
    ) -> None:
        """Take values in, after those that are there of the same quantity."""
        asked = (topic, megabytes, who, what)
        for place, known in enumerate(self.measures):
            if (known.topic, known.megabytes, known.who, known.what) == asked:
                both = (*known.values, *values)
                self.measures[place] = Measure(*asked, known.unit, both)
                return
        self.measures.append(Measure(*asked, unit, tuple(values)))

    def find(self, topic: str, megabytes: float, who: str, what: str) -> Measure | None:
        """One quantity, if it was measured."""
        asked = (topic, megabytes, who, what)
        return next(
            (m for m in self.measures if (m.topic, m.megabytes, m.who, m.what) == asked), None
        )

    def of(self, topic: str, megabytes: float | None = None) -> Sequence[Measure]:
        """All of a topic, or of a size of it."""
        return [m for m in self.measures if m.topic == topic and megabytes in (None, m.megabytes)]

    def sizes(self, topic: str) -> list[float]:
        """The sizes of a topic, in order."""
        return sorted({m.megabytes for m in self.of(topic)})

    def document(self) -> dict[str, Any]:
        """For `results.json`."""
        return {
            "format": FORMAT,
            "command": self.command,
            "host": self.host,
            "versions": dict(self.versions),
            "notes": self.notes,
            "measures": [
                {
                    "topic": m.topic,
                    "megabytes": m.megabytes,
                    "who": m.who,
                    "what": m.what,
                    "unit": m.unit,
                    "median": m.median,
                    "least": m.least,
                    "most": m.most,
                    "values": list(m.values),
                }
                for m in self.measures
            ],
        }


def write_results(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document in place of the last."""
    path.write_text(json.dumps(document, indent=2) + "\n")


def read_results(path: Path) -> Results:
    """What `write_results` wrote, to show it again."""
    document = json.loads(path.read_text())
    return Results(
        document["command"],
        document["host"],
        document["versions"],
        [
            Measure(m["topic"], m["megabytes"], m["who"], m["what"], m["unit"], tuple(m["values"]))
            for m in document["measures"]
        ],
        document["notes"],
    )
