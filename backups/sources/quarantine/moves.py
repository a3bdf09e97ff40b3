"""Moving the files of a database out of its place, and back; each move is finished by a second one.

SQLite applies a side file to whatever main file it lies beside, so that no side file may ever be
beside another database's main file.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from backups.sources.live import side_files
from shared.files import sync_directory


def quarantine_folder(path: Path, run_id: str) -> Path:
    """Where `quarantine` puts a database's files: on the same disk, beside them."""
    return path.with_name(f"{path.name}.quarantine-{run_id}")


def quarantine(path: Path, folder: Path) -> None:
    """Move a database's files into a folder beside them; the same call again finishes it.

    1. Its side files are linked into the folder, so that nobody can take them away.
    2. The main file is moved. Nobody ever sees it without its side files, or adds to it
       after that; and SQLite applies none of these to what a process begins here anew.
    3. The side files here follow it: a process may have begun a `-wal` between 1 and 2.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        link_sides(path, folder)
        sync_directory(folder)
        path.rename(folder / path.name)
    remove_moved(path, folder)


def remove_moved(path: Path, folder: Path, coming: Path | None = None) -> None:
    """The last step of `quarantine`: no side file of what was moved stays at its place.

    As long as no main file is here, a side file here belongs to the one that was moved; unless
    `bring_back` has begun to bring files here from the folder `coming`. Otherwise only those are
    removed that `folder` has too.
    """
    foreign = path.exists() or (coming is not None and _has_begun(coming, path))
    for side in side_files(path):
        kept = folder / side.name
        if not side.exists():
            continue
        if kept.exists() and side.samefile(kept):
            if path.exists() and side.name.endswith("-shm"):
                continue  # whoever began a database here uses it
            side.unlink()
        elif not foreign:
            move_side(side, kept)
    sync_directory(folder)
    sync_directory(path.parent)


def link_sides(path: Path, folder: Path) -> None:
    """Give the side files at a place a second name in a folder."""
    for side in side_files(path):
        kept = folder / side.name
        kept.unlink(missing_ok=True)  # of an earlier call: what is here may be newer
        if side.exists():
            os.link(side, kept)


def move_sides(path: Path, folder: Path) -> None:
    """Move the side files at a place into a folder; what has a name there loses only this one."""
    for side in side_files(path):
        kept = folder / side.name
        if side.exists():
            if kept.exists() and side.samefile(kept):
                side.unlink()
            else:
                move_side(side, kept)


def move_side(side: Path, kept: Path) -> None:
    """Move one side file to where it is kept; what is kept there already gets another name."""
    if kept.exists():  # SQLite must not apply both; and nothing is deleted
        kept.rename(kept.with_name(f"{kept.name}.{uuid4().hex}"))
    side.rename(kept)


def bring_back(folder: Path, path: Path, *, begun: bool = False) -> None:
    """Undo `quarantine`: the database's own side files first, then the main file.

    The side files are linked, and leave the folder last: so a call that died can be told from
    one that did not begin. The place must be free, but for what an earlier call has brought back
    if it was `begun`; raises `FileExistsError` when it is not.
    """
    if not (begun and path.exists() and not (folder / path.name).exists()):
        _link_back(folder, path, begun=begun and _has_begun(folder, path))
    for side in side_files(path):
        kept = folder / side.name
        if kept.exists() and side.exists() and side.samefile(kept):
            kept.unlink()
    sync_directory(path.parent)
    sync_directory(folder)


def bring_sides(folder: Path, path: Path, aside: Path) -> bool:
    """After an `exchange` with the main file of a quarantine, its side files; repeatable.

    Those that the former main file has left at the place go to `aside`. False when there is a file
    with content, of whoever uses the main file since then: nothing is brought.
    """
    pairs = [(folder / side.name, side) for side in side_files(path)]
    coming = [(kept, side) for kept, side in pairs if kept.exists()]
    if not all(side.exists() and side.samefile(kept) for kept, side in coming):
        foreign = [pair for pair in pairs if _is_foreign(*pair)]
        if any(side.stat().st_size for _, side in foreign if not side.name.endswith("-shm")):
            return False
        for _, side in foreign:
            move_side(side, aside / side.name)
        for kept, side in coming:
            if not side.exists():
                os.link(kept, side)
    sync_directory(path.parent)
    for kept, _ in coming:
        kept.unlink()
    sync_directory(folder)
    return True


def _is_foreign(kept: Path, side: Path) -> bool:
    return side.exists() and not (kept.exists() and kept.samefile(side))


def _link_back(folder: Path, path: Path, *, begun: bool) -> None:
    files = [(folder / file.name, file) for file in (*side_files(path), path)]
    for kept, file in files:
        if file.exists() and not (begun and (not kept.exists() or kept.samefile(file))):
            raise FileExistsError(f"{file} is in the way")
    *sides, (main, _) = files
    for kept, side in sides:
        if kept.exists() and not side.exists():
            os.link(kept, side)
    sync_directory(path.parent)
    if main.exists():
        main.rename(path)


def _has_begun(folder: Path, path: Path) -> bool:
    """Whether `bring_back` has brought any side file from the folder to the place, or all files."""
    there = [file for file in (*side_files(path), path) if (folder / file.name).exists()]
    return not there or any(f.exists() and f.samefile(folder / f.name) for f in there)
