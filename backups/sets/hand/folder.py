"""A folder in hand: which object of a store each of its files is.

It may be a copy of the bucket or of the prefix, of a set or a chain alone with its documents and
objects in any arrangement, or have files without a manifest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from backups.errors import FileUnusable
from backups.format import naming
from backups.format.chain_keys import is_chain_id, parse_chain_key
from backups.format.document import MOST_BYTES, read_object
from backups.sets.hand.files import HandFile, LiveFiles, file_at, head_of, stat_of, unreadable
from backups.sets.hand.loose import Judge, LooseFile, newest_of_each
from shared.store.object_store import key_fault
from shared.words import counted

_MOST_FILES = 200_000
_MOST_READ = 20  # manifests, for the prefix of all
_MANIFEST = f"{naming.MANIFEST}.json"
_HEAD = "head.json"


@dataclass(frozen=True)
class Layout:
    """The files in hand by the keys that they have in a store, below `prefix`.

    `is_loose` says that no manifest describes them.
    """

    prefix: str
    files: Mapping[str, HandFile]
    is_loose: bool


def lay_out(
    given: Path, judge: Judge, live: LiveFiles, *, prefix: str, at: datetime | None
) -> Layout:
    """The objects that a file or folder has; `prefix` is that of this host's own store.

    `at` chooses among files without a manifest. Raises `FileUnusable`, `NoRestorePoint`,
    `DatabaseError`.
    """
    found = stat_of(given)
    if not stat.S_ISDIR(found.st_mode):
        one = judge.of(file_at(given, live, found))
        return Layout(prefix, newest_of_each([one], prefix, at, given), is_loose=True)
    entries = dict(_walk(given, live))
    keys = _keys(entries)
    if not any(naming.parse_set_key("", key) for key in keys):
        loose = newest_of_each(_loose(given, entries, judge), prefix, at, given)
        return Layout(prefix, loose, is_loose=True)
    prefix = _prefix_of(keys, prefix, given)
    return Layout(prefix, {f"{prefix}{key}": file for key, file in keys.items()}, is_loose=False)


def _walk(given: Path, live: LiveFiles) -> Iterator[tuple[PurePath, HandFile]]:
    """Each regular file below a folder by its relative path; what is hidden is not looked at."""
    count = 0
    for folder, folders, names in os.walk(given, onerror=_refuse(given)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                raise FileUnusable(
                    f"{given} has more than {counted(_MOST_FILES, 'file')}",
                    "Name a folder with fewer.",
                )
            path = Path(folder, name)
            try:
                found = path.stat()
            except OSError:
                continue  # a link to nothing, or gone meanwhile
            if stat.S_ISREG(found.st_mode) and not name.startswith("."):
                yield path.relative_to(given), file_at(path, live, found)


def _refuse(given: Path) -> Any:
    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename or given), error) from error

    return refuse


def _loose(given: Path, entries: Mapping[PurePath, HandFile], judge: Judge) -> Iterator[LooseFile]:
    """The files in the folder itself that are named as copies are; else all databases in it.

    A folder in it may have copies of another time.
    """
    here = [file for path, file in entries.items() if len(path.parts) == 1]
    named = [file for file in here if judge.by_name(file.given)]
    wanted = [file for file in named if judge.only in (None, judge.by_name(file.given))]
    others = [file for file in here if file.given.suffix in (".db", ".sqlite", ".sqlite3")]
    if not wanted and not others:
        raise FileUnusable(
            f"{given} has neither a manifest nor a database",
            "Name the folder that has them, or the file of a backup.",
        )
    yield from map(judge.of, wanted or others)


def _keys(entries: Mapping[PurePath, HandFile]) -> dict[str, HandFile]:
    """The files by their keys without a prefix; the first one of two with the same key counts."""
    sets: dict[PurePath, str] = {}
    chains: dict[PurePath, str] = {}
    for path, file in entries.items():
        if path.name in (_MANIFEST, _HEAD) and _by_place(path.parts) is None:
            document = _read(file)
            if path.name == _HEAD and is_chain_id(str(document.get("chain"))):
                chains[path.parent] = str(document["chain"])
            elif path.name == _MANIFEST and naming.is_set_id(str(document.get("id"))):
                sets[path.parent] = str(document["id"])
            else:
                raise FileUnusable(f"{file.given} does not say what it belongs to", _AGAIN)
    keys: dict[str, HandFile] = {}
    for path in sorted(entries, key=lambda one: (len(one.parts), one)):
        file = entries[path]
        key = _by_place(path.parts) or _by_document(path, file, sets, chains)
        if key is not None:
            keys.setdefault(key, file)
    return keys


_AGAIN = "Download it again, under the name that it has in the store."


def _by_place(parts: tuple[str, ...]) -> str | None:
    """The key of a document or an object of a chain that lies as it does in a store."""
    for at, part in enumerate(parts):
        if part in ("sets", "chains", "instances"):
            key = "/".join(parts[at:])
            if (
                naming.parse_set_key("", key)
                or parse_chain_key("", key)
                or naming.parse_instance_document_key("", key)
            ):
                return key
    return None


def _by_document(
    path: PurePath,
    file: HandFile,
    sets: Mapping[PurePath, str],
    chains: Mapping[PurePath, str],
) -> str | None:
    """The key of what lies beside, or below, a manifest or the head of a chain; or of data."""
    if naming.parse_data_key("", path.name):
        return path.name
    base = next((one for one in (path.parent, path.parent.parent) if one in chains), None)
    set_id = sets.get(path.parent)
    if base is not None:
        key = f"chains/{chains[base]}/{path.relative_to(base).as_posix()}"
        of_set = path.name.startswith("mark-") and set_id and "chain" not in _read(file)
        if parse_chain_key("", key) and not of_set:
            return key
    key = f"sets/{set_id}/{path.name}"
    return key if set_id and naming.parse_set_key("", key) else None


def _read(file: HandFile) -> dict[str, Any]:
    try:
        return read_object(head_of(file, MOST_BYTES + 1), fractions=True)
    except ValueError as error:
        raise FileUnusable(f"{file.given} is no document of a backup: {error}", _AGAIN) from error


def _prefix_of(keys: Mapping[str, HandFile], own: str, given: Path) -> str:
    """What the keys in the manifests begin with: they and their marks name each object by it."""
    manifests = sorted((key for key in keys if key.endswith(_MANIFEST)), reverse=True)
    prefixes = set[str]()
    for key in manifests[:_MOST_READ]:
        try:
            objects = read_object(head_of(keys[key], MOST_BYTES + 1), fractions=True)["objects"]
            named = [str(one["key"]) for one in objects]
        except (ValueError, KeyError, TypeError):
            continue  # the catalogue says what is wrong with it
        for stored in named:
            head, slash, name = stored.rpartition("/")
            if naming.parse_data_key("", name) and key_fault(stored) is None:
                prefixes.add(f"{head}{slash}")
    if own in prefixes or not prefixes:
        return own
    if len(prefixes) > 1:
        raise FileUnusable(
            f"{given} has sets of several places: {', '.join(sorted(prefixes))}",
            "Name the folder of one of them.",
        )
    return prefixes.pop()
