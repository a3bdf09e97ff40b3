"""`DirectoryStore`: objects as plain files in a folder, the default until Spaces is set up.

`ROOT/<key>` is the object, byte for byte. `ROOT/.metadata/<key>.json` is its metadata. A put
writes both beside their place and publishes the object last, with a hard link, which fails
when the name is taken: that is the `If-None-Match: *` of a file system.

One file, because publishing, metadata and lock belong to the same folder.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from errno import EACCES, EDQUOT, EISDIR, ENOENT, ENOSPC, ENOTDIR, EPERM, EROFS
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from filelock import FileLock, Timeout

from shared.errors import (
    ObjectExists,
    ObjectMissing,
    StoreAccessDenied,
    StoreError,
    StoreFailing,
    StoreUnreachable,
)
from shared.files import make_private_directory, open_private, sync_directory
from shared.store.object_store import (
    CHUNK_BYTES,
    ByteProgress,
    ObjectInfo,
    Sink,
    StoreKind,
    callers_faults_unchanged,
    ignore_bytes,
    in_callers_code,
    is_own_echo,
    key_fault,
    lower_names,
)

_METADATA = ".metadata"
_STAGING = ".staging"
_LOCK_TIMEOUT_SECONDS = 30.0


class DirectoryStore:
    """An `ObjectStore` below `root`, which is created 0700 by the first put.

    When `was_used` says that objects were stored there, a root that is missing is no empty
    store, but one that cannot be reached: a disk that is not mounted, most likely.
    """

    kind: StoreKind = "directory"
    offsite = False

    def __init__(self, root: Path, *, was_used: Callable[[], bool] = lambda: False) -> None:
        self._root = root
        self._was_used = was_used

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._root)

    def check(self, key: str, body: bytes) -> None:
        """Prove that the folder can be written; a hard link never overwrites."""
        with suppress(ObjectExists):
            self.put(key, io.BytesIO(body), {})

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """See `ObjectStore.put`."""
        with callers_faults_unchanged(), self._translated("put", key):
            self._path(key)
            staged = self._stage(body, progress)
            try:
                with self._locked():
                    published = self._publish(key, staged, metadata)
                if not published and not self._is_own_echo(key, staged, metadata):
                    raise ObjectExists(
                        f"{key} exists already in {self.location}",
                        "Nothing was overwritten. Use another key.",
                    )
            finally:
                staged.unlink(missing_ok=True)

    def replace(self, key: str, body: bytes) -> None:
        """See `DocumentStore.replace`: written beside its place, then renamed."""
        with self._translated("put", key):
            path = self._path(key)
            staged = self._stage(io.BytesIO(body), ignore_bytes)
            try:
                with self._locked():
                    make_private_directory(path.parent)
                    staged.replace(path)
                    self._metadata_path(key).unlink(missing_ok=True)
                    sync_directory(path.parent)
            finally:
                staged.unlink(missing_ok=True)

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """See `ObjectStore.get`."""
        with self._translated("get", key):
            source = self._path(key).open("rb")
        with source:
            done = 0
            while True:
                with self._translated("get", key):
                    chunk = source.read(CHUNK_BYTES)
                if not chunk:
                    return
                sink.write(chunk)  # outside the translation: the sink's disk is not the store
                done += len(chunk)
                progress(done)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""
        with self._translated("head", key):
            return self._info(key, self._path(key), self._read_metadata(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        with self._translated("list", prefix):
            if not self._root.exists():
                return
            keys = sorted(self._keys())
        for key in keys:
            if key.startswith(prefix):
                try:
                    with self._translated("head", key):
                        found = self._info(key, self._path(key), {})
                except ObjectMissing:
                    continue
                yield found

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with self._translated("delete", key):
            path = self._path(key)
            if not self._root.is_dir():
                return
            with self._locked():
                if path.is_file():
                    path.unlink()
                    self._metadata_path(key).unlink(missing_ok=True)

    def abort_unfinished(
        self,
        prefix: str,
        before: datetime,
        could_be_ours: Callable[[str], bool],  # noqa: ARG002
    ) -> None:
        """See `ObjectStore.abort_unfinished`: staged files of puts whose process died.

        Nobody but this class writes into its staging folder.
        """
        with self._translated("sweep", prefix):
            folder = self._root / _STAGING
            for staged in folder.iterdir() if folder.is_dir() else ():
                if staged.stat().st_mtime < before.timestamp():
                    staged.unlink(missing_ok=True)

    # --- files --------------------------------------------------------------------------

    def _keys(self) -> Iterator[str]:
        """All keys; raises `OSError` for a folder that cannot be read: it may hold some."""
        for folder, folders, names in os.walk(self._root, onerror=_raise_unless_gone):
            here = Path(folder)
            at_the_top = here == self._root
            if at_the_top:
                folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                if not (at_the_top and name.startswith(".")) and (here / name).is_file():
                    yield (here / name).relative_to(self._root).as_posix()

    def _path(self, key: str) -> Path:
        fault = key_fault(key)
        if fault or key.startswith("."):
            raise StoreError(f"{key!r} is not a key: {fault or 'hidden names are reserved'}")
        return self._root / key

    def _metadata_path(self, key: str) -> Path:
        return self._root / _METADATA / f"{key}.json"

    def _info(self, key: str, path: Path, metadata: Mapping[str, str]) -> ObjectInfo:
        if not path.is_file():
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(path))
        found = path.stat()
        modified = datetime.fromtimestamp(found.st_mtime, UTC)
        return ObjectInfo(key, found.st_size, modified, metadata, str(found.st_mtime_ns))

    def _read_metadata(self, key: str) -> Mapping[str, str]:
        try:
            found = json.loads(self._metadata_path(key).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {str(name): str(value) for name, value in found.items()}

    def _is_own_echo(self, key: str, staged: Path, metadata: Mapping[str, str]) -> bool:
        with suppress(ObjectMissing):  # the folder of other keys, or deleted since
            return is_own_echo(self.head(key), staged.stat().st_size, metadata)
        return False

    def _stage(self, body: BinaryIO, progress: ByteProgress) -> Path:
        folder = self._root / _STAGING
        make_private_directory(folder)
        staged = folder / uuid4().hex
        done = 0
        try:
            with open_private(staged) as target:
                with in_callers_code():
                    body.seek(0)
                while True:
                    with in_callers_code():
                        chunk = body.read(CHUNK_BYTES)
                    if not chunk:
                        break
                    target.write(chunk)
                    done += len(chunk)
                    with in_callers_code():
                        progress(done)
                target.flush()
                os.fsync(target.fileno())
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        return staged

    def _publish(self, key: str, staged: Path, metadata: Mapping[str, str]) -> bool:
        """Make `staged` the object; False when the key is taken. Needs the lock.

        Metadata comes first: without its object it is invisible, and the next put of the
        key replaces it.
        """
        path, described = self._path(key), self._metadata_path(key)
        if path.exists():
            return False
        for folder in (path.parent, described.parent):
            make_private_directory(folder)
        text = json.dumps(lower_names(metadata), sort_keys=True)
        beside = self._stage(io.BytesIO(text.encode()), ignore_bytes)
        beside.replace(described)
        sync_directory(described.parent)
        try:
            os.link(staged, path)
        except FileExistsError:
            return False
        sync_directory(path.parent)
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_private_directory(self._root)
        lock = FileLock(
            self._root / ".lock",
            timeout=_LOCK_TIMEOUT_SECONDS,
            mode=0o600,
            fallback_to_soft=False,  # a process that dies would leave a soft one for ever
        )
        with lock:
            yield

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        if self._root.is_symlink() and not self._root.exists():
            raise StoreUnreachable(
                f"{operation} {key}: the folder {self.location} is a link that leads nowhere",
                "Mount the disk that it leads to, or correct BACKUP_LOCAL_STORE.",
            )
        if not self._root.exists() and self._was_used():
            raise StoreUnreachable(
                f"{operation} {key}: the folder {self.location}, which held backups, does not "
                "exist",
                "Mount its disk, or correct BACKUP_LOCAL_STORE. To start again without those "
                f"backups: mkdir {self.location}",
            )
        try:
            yield
        except Timeout as error:
            raise StoreUnreachable(
                f"{operation} {key}: another process has held {self.location}/.lock for "
                f"{_LOCK_TIMEOUT_SECONDS:.0f} s",
                "Find the process that holds this lock, and end it.",
            ) from error
        except OSError as error:
            raise self._translate(error, operation, key) from error

    def _translate(self, error: OSError, operation: str, key: str) -> StoreError:
        if operation not in ("put", "list") and error.errno in (ENOENT, ENOTDIR, EISDIR):
            return ObjectMissing(
                f"{operation} {key}: there is no such object in {self.location}",
                "Check BACKUP_LOCAL_STORE and BACKUP_PREFIX.",
            )
        what = f"{operation} {key} in {self.location}: {error.strerror or error}"
        if error.errno in (EACCES, EPERM, EROFS):
            return StoreAccessDenied(what, "Give this user write access to the folder.")
        if error.errno in (ENOSPC, EDQUOT):
            return StoreFailing(what, "Make room on the disk that holds BACKUP_LOCAL_STORE.")
        return StoreError(what, "Check the folder BACKUP_LOCAL_STORE and its disk.")


def _raise_unless_gone(error: OSError) -> None:
    if error.errno != ENOENT:
        raise error
