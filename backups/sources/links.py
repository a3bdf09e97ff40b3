"""Symbolic links on the way to a live database: the file that they lead to, or that there is none.

SQLite keeps its own files beside the file, not beside a link, and a rename must move the file. A
link that leads nowhere is most likely a disk that is not mounted: what is made in its place would
be hidden by the disk.
"""

from __future__ import annotations

import os
from dataclasses import replace
from errno import ELOOP
from pathlib import Path

from backups.errors import LinkDangling
from backups.model import Source


def real_source(source: Source) -> Source:
    """The source at its real path; `link` is the path as it was given, if that goes over a link."""
    real = os.path.realpath(source.path)
    if real == os.path.abspath(source.path):  # noqa: PTH100 - `Path.absolute` keeps `..`
        return source
    return replace(source, path=Path(real), link=source.link or source.path)


def real_path(path: Path) -> Path:
    """Where a path leads; of links that lead in a circle any of them, where `resolve` may raise."""
    return Path(os.path.realpath(path))


def refuse_dangling_link(source: Source) -> None:
    """Raise `LinkDangling` when the path of a source goes over a link to what is not there.

    Links that lead in a circle lead nowhere, too.
    """
    given = source.link or source.path
    for path in (given, *given.parents):
        try:
            leads_nowhere = path.is_symlink() and not path.exists()
        except OSError:  # not to be reached: whoever opens the file names it
            return
        if leads_nowhere and _leads_in_a_circle(path):
            raise LinkDangling(
                f"source {source.name}: {path} is a link that leads back to itself",
                "Set the real path of the database in .env, not the link, then try again.",
            )
        if leads_nowhere:
            raise LinkDangling(
                f"source {source.name}: {path} is a link to {path.readlink()}, which does not "
                "exist",
                "Mount the disk that the link leads to (mount -a), then try again. If the data is "
                "lost for good, set the real path in .env, not the link, and restore.",
            )


def _leads_in_a_circle(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == ELOOP
    return False
