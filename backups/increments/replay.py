"""Replay: from the files of a full to a point of its chain, each step checked before and after.

    the full's sum -> newest differential before the point -> increments between, packed or not

Objects are fetched a few ahead. Each has its mark, names the SHA-256 of the one before it, and says
which sum every database has before and after it. A break ends the replay: it names the object and
the newest good point before it, and is never passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from backups.decisions.chains.closure import ChainObject
from backups.errors import IncrementBroken, ManifestInvalid, ProofFailed, SealBroken
from backups.format.chain import HeadSource
from backups.format.chain_keys import point_id, set_of
from backups.host.directory import disk_errors
from backups.host.removal import remove_file
from backups.increments.bodies import unfold
from backups.increments.shadow import Shadow
from backups.model import BackupSet, Progress, ProgressSink
from backups.sets.chains.objects import ReadIncrement, fetch_increment, read_increment
from backups.sets.chains.pack_reader import OpenPack, fetch_pack
from backups.sets.chains.points import ChainPoints
from backups.sets.chains.reading import ChainReader
from shared.errors import AppError
from shared.store.object_store import ObjectStore

_WORKERS = 8
# What is fetched ahead, in bytes as stored; a larger object is alone.
_AHEAD_BYTES = 16 * 1024 * 1024
_AHEAD = 64
_ASK_EVERY = 64
_HINT = "Choose another restore point: ./bot backups list"


@dataclass(frozen=True)
class Replay:
    """Replays chains; `points` knows them."""

    store: ObjectStore
    points: ChainPoints

    def to(
        self,
        backup_set: BackupSet,
        files: Mapping[str, Path],
        identity_file: Path | None,
        progress: ProgressSink,
    ) -> None:
        """Bring the files of the full, as they were stored, to a point; in place.

        `files` has those of some sources, or of all. Raises `IncrementBroken` with the command for
        the newest good point before the break, `ProofFailed` for a full that is not the chain's,
        `IdentityMissing`, `IdentityWrong`, `StoreError`.
        """
        point = backup_set.point
        if point is None:
            return
        chain = self.points.open(point.chain)
        with ExitStack() as opened:
            shadows = {
                source.source: _open(opened, files[source.source], source)
                for source in chain.head.sources
                if source.source in files
            }
            if missing := files.keys() - shadows.keys():
                raise ProofFailed(
                    f"the head of chain {chain.id} does not have {', '.join(sorted(missing))}",
                    f"Restore the set itself: ./bot backups restore {set_of(chain.id)}",
                )
            folder = next(iter(files.values())).parent
            walk = _Walk(chain, point.number, shadows, identity_file)
            self._walk(walk, folder, opened, progress)
            for shadow in shadows.values():
                with disk_errors(shadow.path):
                    shadow.sync()

    def read(self, backup_set: BackupSet, folder: Path, progress: ProgressSink) -> None:
        """Read what leads to a point, and check marks, hashes and order, without its full.

        For a host that cannot decrypt it. Raises `IncrementBroken`, `StoreError`.
        """
        point = backup_set.point
        if point is None:
            return
        chain = self.points.open(point.chain)
        with ExitStack() as opened:
            walk = _Walk(chain, point.number, {}, None)
            self._walk(walk, folder, opened, progress)

    def _walk(self, walk: _Walk, folder: Path, opened: ExitStack, progress: ProgressSink) -> None:
        chain, number = walk.chain, walk.to
        way = chain.way_to(number)
        if way is None:
            raise _broken(chain, 0, "the store lacks objects that lead to it")
        for at, read in enumerate(self._objects(chain, way, number, folder, opened)):
            with _explained(walk):
                walk.step(read())
            if at % _ASK_EVERY == 0:
                progress(Progress("get", "", walk.number, number))

    def _objects(
        self,
        chain: ChainReader,
        way: Sequence[ChainObject],
        number: int,
        folder: Path,
        opened: ExitStack,
    ) -> Iterator[Callable[[], ReadIncrement]]:
        """What to apply, in order: each a call that returns it, or raises why it cannot."""
        pool = opened.enter_context(ThreadPoolExecutor(_WORKERS))
        ahead: deque[tuple[int, Future[ReadIncrement]]] = deque()
        opened.callback(lambda: [one.cancel() for _, one in ahead])
        waiting = deque(way)
        done = next((one.last for one in way if one.kind == "differential"), 0)
        while waiting or ahead:
            while (
                waiting
                and waiting[0].kind != "pack"
                and len(ahead) < _AHEAD
                and (not ahead or _size(ahead) + waiting[0].bytes <= _AHEAD_BYTES)
            ):
                one = waiting.popleft()
                fetched = pool.submit(fetch_increment, self.store, chain.marks, one.key, one.bytes)
                ahead.append((one.bytes, fetched))
            if ahead:
                _, fetched = ahead.popleft()
                yield fetched.result
                continue
            pack = waiting.popleft()
            yield from self._members(chain, pack, number, folder, done)

    def _members(
        self, chain: ChainReader, one: ChainObject, number: int, folder: Path, done: int
    ) -> Iterator[Callable[[], ReadIncrement]]:
        path = folder / f"{one.first}.pack"
        upto = min(number, one.last)
        try:
            try:
                found = fetch_pack(self.store, chain.marks, one.key, path, upto=upto)
            except (IncrementBroken, ManifestInvalid) as error:
                yield partial(_fail, error)
                return
            with closing(found):
                for member in range(max(one.first, done + 1), upto + 1):
                    yield partial(_member, chain, found, member)
        finally:
            remove_file(path)


class _Walk:
    """How far a replay is on its way `to` a point; `number` is the one that the files hold."""

    def __init__(
        self,
        chain: ChainReader,
        to: int,
        shadows: Mapping[str, Shadow],
        identity_file: Path | None,
    ) -> None:
        self.chain = chain
        self.to = to
        self.number = 0
        self._shadows = shadows
        self._identity = identity_file
        self._prev = sha256(chain.row.head).hexdigest()
        self._sequence, self._instant = chain.head.sequence, 0
        self._sources = {one.source for one in chain.head.sources}

    def step(self, read: ReadIncrement) -> None:
        """Apply the next object; raises why it is not the next one, or does not fit."""
        line = read.line
        if line.kind == "differential":
            self._prev = line.prev
        elif line.seq <= self.number:
            return  # of a pack, before the differential
        elif line.seq != self.number + 1:
            raise IncrementBroken(f"{read.key} does not follow point {self.number}", _HINT)
        elif line.prev != self._prev:
            raise IncrementBroken(f"{read.key} does not follow the object before it", _HINT)
        else:
            self._prev = read.sha256
        if line.sequence <= self._sequence or line.instant < self._instant:
            raise IncrementBroken(f"{read.key} is older than the object before it", _HINT)
        if not {change.source for change in line.sources} <= self._sources:
            raise IncrementBroken(f"{read.key} has a source that its chain does not have", _HINT)
        for change in line.sources:
            shadow = self._shadows.get(change.source)
            body = read.body(change.source)
            if shadow is not None and body is not None:
                raw = unfold(body, change, read.key, self._identity)
                with disk_errors(shadow.path):
                    shadow.apply(change, raw)
        self.number, self._sequence, self._instant = line.seq, line.sequence, line.instant


@contextmanager
def _explained(walk: _Walk) -> Iterator[None]:
    try:
        yield
    except (IncrementBroken, ManifestInvalid, SealBroken) as error:
        raise _broken(walk.chain, walk.number, error.message) from error


def _broken(chain: ChainReader, good: int, why: str) -> IncrementBroken:
    """A break after the point `good`, which is whole."""
    near = point_id(chain.id, good) if good else set_of(chain.id)
    return IncrementBroken(
        f"chain {chain.id} breaks after {f'point {good}' if good else 'its full'}: {why}. "
        "Nothing live was touched",
        f"The newest good second before it: ./bot backups restore {near}",
    )


def _open(opened: ExitStack, path: Path, source: HeadSource) -> Shadow:
    """The file of the full, which must be what the head says; raises `ProofFailed`."""
    with disk_errors(path):
        shadow = opened.enter_context(closing(Shadow(path, source.page_size)))
    if (shadow.sum, shadow.pages) != (source.sum, source.pages):
        raise ProofFailed(
            f"the full's {source.source} is not the one that its chain begins with",
            "Choose another restore point: ./bot backups list",
        )
    return shadow


def _member(chain: ChainReader, pack: OpenPack, number: int) -> ReadIncrement:
    return read_increment(chain.marks, pack.key_of(number), pack.member(number), of_pack=True)


def _fail(error: AppError) -> ReadIncrement:
    raise error


def _size(ahead: deque[tuple[int, Future[ReadIncrement]]]) -> int:
    return sum(size for size, _ in ahead)
