"""A command of root's on the data of another user: it goes on as that user.

Python may be in a folder that root alone can read: what is read later is read before.
"""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from backups.wiring import build_store
from shared.settings.load import Settings
from shared.store.object_store import DocumentStore
from shared.store.spaces_access import SpacesSettings

_log = logging.getLogger("backups")

# `datetime.strptime` imports the first.
_LATE_MODULES = (
    *("_strptime", "encodings.idna", "ssl", "pyrage", "zstandard"),
    *("rich.console", "rich.progress", "urllib.request", "backups.doctor"),
)


def become_owner(settings: Settings) -> DocumentStore | None:
    """As root, go on as the owner of the data directory, so that all files get that owner.

    Returns the store in Spaces, if it had to be built before: its client reads files of Python.

    Otherwise `sudo ./bot backups ...` would leave files that the app may not open. Where an app
    that root runs has left files of its own, only root can open those: then nothing changes.
    """
    parents = settings.token_db_path.absolute().parents
    folder = next(parent for parent in parents if parent.exists())
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return None
    if (file := _file_of_root(settings)) is not None:
        _log.warning("continuing as root, because %s belongs to root", file)
        return None
    _log.warning("continuing as user %d, the owner of %s", owner.st_uid, folder)
    _import_late_modules()
    store = _build_spaces(settings, settings.spaces, owner) if settings.spaces else None
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    return store


def _import_late_modules() -> None:
    """Import what is imported when needed: Python may be in a folder that root alone can read."""
    for name in _LATE_MODULES:
        import_module(name)


def _build_spaces(
    settings: Settings, spaces: SpacesSettings, owner: os.stat_result
) -> DocumentStore:
    """The store in Spaces; its client reads the certificates of authorities at each connection."""
    from shared.store.spaces import certificates  # noqa: PLC0415 - it imports boto3

    if spaces.ca_bundle is None:
        bundle = readable_certificates(certificates(), owner.st_uid, owner.st_gid)
        settings = replace(settings, spaces=replace(spaces, ca_bundle=bundle))
    return build_store(settings)


def readable_certificates(bundle: Path, user: int, group: int) -> str | None:
    """A copy for a user, until this process ends; None where every user can read the original."""
    if all(path.stat().st_mode & 0o005 for path in (bundle, *bundle.parents)):
        return None
    descriptor, name = tempfile.mkstemp(suffix=".pem")
    with os.fdopen(descriptor, "wb") as copy:
        copy.write(bundle.read_bytes())
    os.chown(name, user, group)
    atexit.register(Path(name).unlink, missing_ok=True)
    return name


def _file_of_root(settings: Settings) -> Path | None:
    """A database, or a file of `BACKUP_DIR`, that belongs to root; None if there is none."""
    folder = settings.backup.directory
    files = [settings.token_db_path, settings.session_db_path, folder]
    files += sorted(folder.iterdir()) if folder.is_dir() else []
    return next((file for file in files if file.exists() and file.stat().st_uid == 0), None)
