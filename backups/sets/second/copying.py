"""Copying what is published to the second place: the stored bytes as they are, each read back.

    list both places -> for each set: its objects, its manifest, what was said of it later
                     -> for each chain: its head, its packs and differentials, its documents

Only what a mark of ours vouches for is copied: a thief in the first bucket must not fill the
second, where nothing can be deleted. The oldest comes first, so that what is there is whole.

One file, because what may be copied depends on what its set or chain says of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from backups.errors import (
    BackupError,
    ManifestInvalid,
    ProofFailed,
    RunInterrupted,
    SetNotFound,
)
from backups.format import naming
from backups.format.chain_keys import DOCUMENTS, ChainKey, parse_chain_key, set_of
from backups.format.document import MOST_BYTES
from backups.format.mark import Marks
from backups.format.notes.deletion import DELETED, load_deletion
from backups.host.directory import disk_errors
from backups.host.removal import remove_file
from backups.sets import marks_table
from backups.sets.catalogue import Catalogue
from backups.sets.chains import objects_table
from backups.sets.chains.objects import fetch_increment
from backups.sets.chains.pack_reader import read_pack
from backups.sets.chains.vouched import vouched
from backups.sets.hand.files import HandFile
from backups.sets.hand.store import FilesInHand
from backups.sets.seal_streams import HashingWriter
from backups.sets.second.noted import Noted, note, noted
from backups.sets.second.wanted import (
    Copied,
    Paced,
    SentBytes,
    Wanted,
    owner_of_chain,
    owner_of_set,
)
from backups.sources.room import RESERVE_BYTES, free_bytes
from backups.vocabulary.second import Differences
from shared.databases.sqlite import Database
from shared.errors import (
    DiskFull,
    ObjectArchived,
    ObjectExists,
    ObjectMissing,
    ObjectTooLarge,
    StoreAccessDenied,
    StoreError,
    StoreFailing,
)
from shared.files import make_private_directory, open_private
from shared.store.object_store import BoundedSink, ObjectInfo, ObjectStore, get_document

_log = logging.getLogger("backups.copy")

_ORDER = ("head", "differential", "increment", "pack", "check", "mark", "end")
# What a place may say of one object alone; who says it this often in a row says it of all.
_OF_ONE = (ObjectMissing, StoreAccessDenied, StoreFailing)
_FAULTS_IN_A_ROW = 3
_AGAIN = "Do not trust the second place; see the status page of its provider."


class Copying:
    """Copies from `first` to `second`; `catalogue` and `known` are of the first.

    `scratch` is a folder on a disk with room for the largest object. `with_increments` says that
    increments are copied themselves, not only their packs; of all sets `only` those are copied.
    `place` is what this host knows of the second place: what it has not compared there itself
    counts as missing, whatever a listing says.
    `go_on` is called between two pieces, with the bytes of the last one: it waits to keep the
    pace, or raises to end the copying.
    """

    def __init__(
        self,
        first: ObjectStore,
        second: ObjectStore,
        *,
        catalogue: Catalogue,
        known: Database,
        marks: Marks,
        scratch: Path,
        with_increments: bool = False,
        only: Collection[str] | None = None,
        place: Database | None = None,
        go_on: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._first = first
        self._second = second
        self._catalogue = catalogue
        self._known = known
        self._marks = marks
        self._prefix = marks.prefix
        self._scratch = scratch
        self._with_increments = with_increments
        self._only = only
        self._place = place
        self._go_on = go_on

    def bring(self) -> Copied:
        """Copy what is not there yet, the oldest first; raises `StoreError` of the second place.

        What cannot be copied for a reason of its own is noted, and stops nothing else.
        """
        found = Copied()
        there = {one.key: one.size for one in self._second.list(self._prefix)}
        compared = noted(self._place) if self._place is not None else dict[str, Noted]()
        done = {key for key, one in compared.items() if there.get(key) == one.size}
        faults = 0
        for wanted in self._groups(found, done):
            found.keys |= {one.key for one in wanted}
            # A key is free again in the first place once its set is gone; in the second it is not.
            lacking = [
                one
                for one in wanted
                if one.key not in done or one.sha256 not in (None, compared[one.key].sha256)
            ]
            for place, one in enumerate(lacking):
                self._go_on(0)
                try:
                    sha256 = self._copy(one)
                except RunInterrupted:
                    raise
                except _OF_ONE as error:
                    faults += not isinstance(error, (ObjectMissing, ObjectArchived))
                    if faults == _FAULTS_IN_A_ROW:
                        raise
                    if self._is_gone(one):
                        break
                    found.error = error
                    found.waiting += lacking[place:]
                    _log.warning("%s was not copied: %s", one.key, error.message)
                    break  # a manifest without its objects is no set
                except (BackupError, ObjectTooLarge) as error:
                    found.refused[one.key] = error.message
                    found.waiting += lacking[place:]
                    _log.warning("%s was not copied: %s", one.key, error.message)
                    break
                faults = 0
                if self._place is not None:
                    note(self._place, one.key, Noted(one.size, sha256))
                found.copied += 1
                found.size += one.size
        return found

    def _is_gone(self, one: Wanted) -> bool:
        """Whether the set of an object was removed here while it was to be copied."""
        set_id = one.owner.get("set-id") or (set_of(one.in_chain.chain) if one.in_chain else "")
        return bool(set_id) and not self._catalogue.has(set_id)

    def compare(self) -> Differences:
        """Compare both places by listing and by SHA-256; reads all that the second one has."""
        there = {one.key: one.size for one in self._second.list(self._prefix)}
        missing, different, compared = list[str](), list[str](), 0
        for wanted in self._groups(Copied(), ()):
            for one in wanted:
                compared += 1
                if one.key not in there:
                    missing.append(one.key)
                elif there[one.key] != one.size or not self._is_equal(one):
                    different.append(one.key)
        return Differences(compared, tuple(missing), tuple(different))

    # --- what should be there ---------------------------------------------------------------

    def _groups(self, found: Copied, done: Collection[str]) -> Iterator[list[Wanted]]:
        """What belongs together, in the order in which it is to be copied; the oldest first.

        Documents that are `done` are not read again. What cannot be read is noted in `found`.
        """
        # Before the listing: what is published during it waits for the next copying.
        sets = sorted({one.id for one in self._catalogue.points()})
        if self._only is not None:
            sets = [one for one in sets if one in self._only]
        listed = {one.key: one for one in self._first.list(self._prefix)}
        chains: dict[str, list[tuple[ChainKey, ObjectInfo]]] = {}
        for key, info in listed.items():
            in_chain = parse_chain_key(self._prefix, key)
            if in_chain is not None:
                chains.setdefault(in_chain.chain, []).append((in_chain, info))
        yield list(self._installations(listed.values(), found, done))
        for set_id in sets:
            wanted = self._of_set(set_id, listed)
            if wanted is None:
                continue
            yield wanted
            for chain in sorted(one for one in chains if set_of(one) == set_id):
                yield list(self._of_chain(chain, chains[chain], found, done))
        if self._only is None:
            yield list(self._deletions(listed))

    def _deletions(self, listed: Mapping[str, ObjectInfo]) -> Iterator[Wanted]:
        """The notes that sets were deleted on purpose: they are none in either place."""
        with self._known.reading() as connection:
            notes = marks_table.believed(connection, DELETED)
        for set_id, document in notes:
            at = load_deletion(document, expected_id=set_id).at
            info = listed.get(naming.verdict_key(self._prefix, set_id, "deleted", at))
            if info is not None:
                yield Wanted.of_document(info, document, {"set-id": set_id})

    def _installations(
        self, listed: Iterable[ObjectInfo], found: Copied, done: Collection[str]
    ) -> Iterator[Wanted]:
        for info in listed:
            if naming.parse_instance_document_key(self._prefix, info.key):
                if info.key in done:
                    yield Wanted(info.key, info.size, info.modified_at)
                    continue
                document = self._read(Wanted(info.key, info.size, info.modified_at), found)
                if document and self._marks.check(info.key, document).outcome == "valid":
                    yield Wanted.of_document(info, document, {})

    def _of_set(self, set_id: str, listed: Mapping[str, ObjectInfo]) -> list[Wanted] | None:
        """The objects of a set, its manifest, and the documents beside it; None for one that has no
        mark of ours."""
        try:
            found = self._catalogue.get(set_id)
        except (SetNotFound, ManifestInvalid):
            return None
        if found.kind == "legacy" or found.mark != "valid":
            return None
        owner = owner_of_set(set_id, found.instance)
        wanted = [  # also what a listing lacks: a copying that goes past it would not be complete
            Wanted(stored.key, stored.bytes, found.created_at, stored.sha256, owner=owner)
            for stored in found.objects
        ]
        documents = dict(self._catalogue.documents(set_id))
        names = sorted(documents, key=lambda name: (name != naming.MANIFEST, name))
        for name in names:
            key = naming.document_key(self._prefix, set_id, name)
            info = listed.get(key) or ObjectInfo(key, 0, found.created_at)
            wanted.append(Wanted.of_document(info, documents[name], owner))
        return wanted

    def _of_chain(
        self,
        chain: str,
        members: list[tuple[ChainKey, ObjectInfo]],
        found: Copied,
        done: Collection[str],
    ) -> Iterator[Wanted]:
        marks, owner = self._marks_of(chain), owner_of_chain(chain)
        kinds = [kind for kind in _ORDER if kind != "increment" or self._with_increments]
        members = [one for one in members if one[0].kind in kinds]
        for of, info in sorted(members, key=lambda one: (kinds.index(one[0].kind), one[0].first)):
            one = Wanted(info.key, info.size, info.modified_at, in_chain=of, owner=owner)
            if of.kind not in DOCUMENTS or info.key in done:
                yield one
            elif (document := self._read(one, found)) is not None:
                if marks.check(info.key, document).outcome == "valid":
                    yield Wanted.of_document(info, document, owner)
                else:
                    found.refused[info.key] = "it has no mark of ours"

    def _read(self, one: Wanted, found: Copied) -> bytes | None:
        """A document of the first place; None for one that waits, because it cannot be read now."""
        try:
            return get_document(self._first, one.key, MOST_BYTES)
        except ObjectTooLarge as error:
            found.refused[one.key] = error.message
        except ObjectMissing:  # it was removed since the listing
            pass
        except StoreError as error:
            found.error = error
            found.waiting.append(one)
            _log.warning("%s was not copied: %s", one.key, error.message)
        return None

    def _marks_of(self, chain: str) -> Marks:
        with self._known.reading() as connection:
            objects = objects_table.objects(connection, chain)
        return vouched(self._marks, chain, objects)

    # --- one object -------------------------------------------------------------------------

    def _copy(self, one: Wanted) -> str:
        """Copy one object, and compare it there; its SHA-256."""
        path = self._scratch / "object"
        with disk_errors(self._scratch):
            make_private_directory(self._scratch)
            remove_file(path)
            if one.size > free_bytes(self._scratch) - RESERVE_BYTES:
                raise DiskFull(
                    f"there is no room to copy {one.key} ({one.size:,} bytes) in {self._scratch}",
                    "Free some, or move BACKUP_DIR to a larger disk.",
                )
            try:
                sha256 = self._fetch(one, path)
                if one.in_chain is not None:
                    self._refuse_foreign(one, one.in_chain, path)
                self._put(one, path, sha256)
            finally:
                remove_file(path)
        return sha256

    def _fetch(self, one: Wanted, path: Path) -> str:
        """The object in the new file `path`, and its SHA-256, which is what it should be."""
        with open_private(path) as file:
            sink = HashingWriter(file, one.size)
            if one.document is not None:
                sink.write(one.document)
            else:
                self._first.get(one.key, BoundedSink(Paced(sink, self._go_on), one.key, one.size))
        found = sink.hexdigest()
        if one.sha256 is not None and found != one.sha256:
            raise ProofFailed(
                f"{one.key} is not what its manifest says", "Prove it: ./bot backups verify"
            )
        return found

    def _refuse_foreign(self, one: Wanted, of: ChainKey, path: Path) -> None:
        """Raise for an object of a chain that is not what its mark and its line say."""
        file = HandFile(path, path, one.size, one.modified_at)
        in_hand, marks = FilesInHand(path, {one.key: file}), self._marks_of(of.chain)
        if of.kind == "pack":
            read_pack(in_hand, marks, one.key)
        else:
            fetch_increment(in_hand, marks, one.key, one.size)

    def _put(self, one: Wanted, path: Path, sha256: str) -> None:
        # What is there already is compared like what was put.
        with path.open("rb") as file, suppress(ObjectExists):
            metadata = {**one.owner, "sha256": sha256}
            self._second.put(one.key, file, metadata, SentBytes(self._go_on))
        if self._sha256_there(one) != sha256:
            raise ProofFailed(f"{one.key} in {self._second.location} has other bytes", _AGAIN)

    def _sha256_there(self, one: Wanted) -> str:
        sink = HashingWriter(None)
        with suppress(ObjectMissing, ObjectTooLarge):
            self._second.get(one.key, BoundedSink(Paced(sink, self._go_on), one.key, one.size))
        return sink.hexdigest()

    def _is_equal(self, one: Wanted) -> bool:
        expected = one.sha256
        if expected is None:
            sink = HashingWriter(None, one.size)
            if one.document is not None:
                sink.write(one.document)
            else:
                self._first.get(one.key, Paced(sink, self._go_on))
            expected = sink.hexdigest()
        return self._sha256_there(one) == expected
