"""`Image`: what the Dockerfile says, read without Docker."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.installation import REPOSITORY


@dataclass(frozen=True)
class Image:
    """The last stage: its settings and commands; and what the first one copies from here."""

    environment: Mapping[str, str]
    command: Sequence[str]
    health: Sequence[str]
    user: str
    volume: str
    copied: Sequence[str]

    def lay_out(self, folder: Path) -> Path:
        """The folder `/app` of the image, made in `folder`; only what the image would have."""
        for name in self.copied:
            source, target = REPOSITORY / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        return folder


def read_image() -> Image:
    """What is in `Dockerfile`."""
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and line[0] not in "# "]
    build, final = _stages([(word, rest) for word, rest in lines])
    (health,) = re.findall(r"CMD (\[.*\])", _only(final, "HEALTHCHECK"))
    return Image(
        environment=dict(part.split("=", 1) for part in shlex.split(_only(final, "ENV"))),
        command=json.loads(_only(final, "CMD")),
        health=json.loads(health),
        user=_only(final, "USER"),
        volume=_only(final, "VOLUME"),
        copied=[
            name.rstrip("/") for word, rest in build if word == "COPY" for name in rest.split()[:-1]
        ],
    )


def _stages(lines: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    stages: list[list[tuple[str, str]]] = []
    for word, rest in lines:
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


def _only(stage: list[tuple[str, str]], wanted: str) -> str:
    (found,) = [rest for word, rest in stage if word == wanted]
    return found
