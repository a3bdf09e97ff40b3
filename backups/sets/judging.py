"""A set as its verdicts left it: newest proof, acceptance, whether it was set aside. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from backups.decisions.order import end_of_present
from backups.errors import ManifestInvalid, SetDeleted
from backups.format import manifest, naming
from backups.format.acceptance import Acceptance, load_acceptance
from backups.format.later_mark import load_later_mark
from backups.format.mark import Checked, Marks, sha256_of
from backups.format.notes.deletion import DELETED, Deletion, load_deletion
from backups.format.pin import load_pin
from backups.model import BackupSet
from backups.sets.points_table import Noted
from shared.clock import format_utc

LATER_MARK = "mark-"
LIST = "List them with: ./bot backups list"

# What refuses a document of a kind that cannot be read, before it is taken in.
READ_AS: Mapping[str, Callable[..., object]] = {
    "proof-": manifest.load_verdict,
    "accept-": load_acceptance,
    "aside-": manifest.load_aside,
    "pin-": load_pin,
    DELETED: load_deletion,
    LATER_MARK: load_later_mark,
}


def check_marks(set_id: str, documents: Mapping[str, bytes], marks: Marks) -> dict[str, Checked]:
    """How the documents of a set (by name) are marked.

    One is valid if its own mark is, or if a later mark that is valid itself names its SHA-256. No
    later mark makes a note that the set was deleted: who accepts sets without marks means to keep.
    """
    own = {
        name: marks.check(naming.document_key(marks.prefix, set_id, name), document)
        for name, document in documents.items()
    }
    later: dict[tuple[str, str], list[Checked]] = {}
    for name, document in documents.items():
        if name.startswith(LATER_MARK):
            with suppress(ManifestInvalid):
                found = load_later_mark(document, expected_id=set_id)
                for one in found.documents.items():
                    later.setdefault(one, []).append(own[name])
    return {
        name: _best(own[name], later.get((name, sha256_of(document)), ()))
        if later and not name.startswith((LATER_MARK, DELETED))
        else own[name]
        for name, document in documents.items()
    }


def _best(own: Checked, later: Sequence[Checked]) -> Checked:
    """The mark of a document: its own one, unless a later one says more."""
    if own.outcome == "valid":
        return own
    valid = next((one for one in later if one.outcome == "valid"), None)
    unknown = next((one for one in later if one.outcome == "unknown_key"), None)
    return valid or (unknown if unknown and own.outcome == "unsigned" else own)


def believed_of(
    documents: Mapping[str, bytes], marks: Mapping[str, Checked]
) -> list[tuple[str, bytes]]:
    """Those of the documents of a set (by name) that are marked as ours."""
    return [one for one in documents.items() if marks[one[0]].outcome == "valid"]


def deletion_of(
    set_id: str, documents: Mapping[str, bytes], marks: Mapping[str, Checked]
) -> Deletion | None:
    """The note that this set was deleted on purpose; None where none is believed, or where it is
    about another manifest than the one that is here. A group of the old scripts has none."""
    own = documents.get(naming.MANIFEST)
    for name, document in sorted(believed_of(documents, marks)):
        if name.startswith(DELETED) and not naming.is_legacy_id(set_id):
            with suppress(ManifestInvalid):
                found = load_deletion(document, expected_id=set_id)
                if own is None or found.manifest == sha256_of(own):
                    return found
    return None


def refuse_deleted(
    set_id: str, documents: Mapping[str, bytes], marks: Mapping[str, Checked]
) -> None:
    """Raise `SetDeleted` for a set that a person has deleted."""
    if deletion := deletion_of(set_id, documents, marks):
        raise SetDeleted(
            f"restore point {set_id} was deleted on purpose at {format_utc(deletion.at)}",
            LIST,
        )


def judge(
    found: BackupSet,
    verdicts: Sequence[tuple[str, bytes]],
    now: datetime,
    *,
    manifest_sha256: str,
) -> Noted:
    """The set with the verdicts (name, document) that are believed; raises `ManifestInvalid`.

    Of several proofs the latest counts, and an acceptance clears what it lists. What lies in the
    future counts for nothing, but for a proof that failed: that one counts until there is another.
    Nor does a verdict on another manifest than the one with this SHA-256.
    """
    end = end_of_present(now)
    last = naming.stamp(end)
    stamps = [_stamp(name) for name, _ in verdicts]
    named = [found.created_at, *filter(None, map(naming.instant_or_none, stamps))]
    if found.proven_at is not None:
        named.append(found.proven_at)
        if found.proven_at > end:  # it was read back, at a time that is not known
            found = replace(found, proven_at=found.created_at)
    accepted = [
        (_stamp(name), one)
        for name, one in _acceptances(found.id, verdicts)
        if _stamp(name) <= last and one.manifest in (None, manifest_sha256)
    ]
    left = tuple(
        reason
        for reason in found.suspect or ()
        if not any(one.clears_reason(reason) for _, one in accepted)
    )
    if accepted:
        found = replace(found, suspect=left or None)
    proofs = [
        (name, one)
        for name, document in _latest(verdicts, "proof-", last)
        for one in (manifest.load_verdict(document, expected_id=found.id),)
        if one.manifest in (None, manifest_sha256)
    ]
    for name, verdict in proofs[-1:]:
        named.append(verdict.at)
        if verdict.proof != "none" and (_stamp(name) > last or verdict.at > end):
            continue
        found = manifest.with_verdict(found, verdict)
        if any(one.clears_proof(name, accepted=stamp) for stamp, one in accepted):
            found = replace(found, suspect=left or None)
    for _, document in _latest(verdicts, "aside-", last)[-1:]:
        aside = manifest.load_aside(document, expected_id=found.id)
        found = replace(found, set_aside=aside.at if aside.aside else None)
    for name, document in _latest(verdicts, "pin-", last)[-1:]:
        if _stamp(name) <= last:
            pin = load_pin(document, expected_id=found.id)
            found = replace(found, pinned=pin.pinned, label=pin.label if pin.pinned else "")
    return Noted(found, stamped=max(named), ahead=max(named) > end)


def _acceptances(
    set_id: str, verdicts: Sequence[tuple[str, bytes]]
) -> Iterator[tuple[str, Acceptance]]:
    for name, document in verdicts:
        if name.startswith("accept-"):
            with suppress(ManifestInvalid):
                yield name, load_acceptance(document, expected_id=set_id)


def _latest(verdicts: Sequence[tuple[str, bytes]], kind: str, last: str) -> list[tuple[str, bytes]]:
    """Those of a kind in the order of time; what lies in the future comes before all others."""
    found = (one for one in verdicts if one[0].startswith(kind))
    return sorted(found, key=lambda one: (_stamp(one[0]) <= last, one[0]))


def _stamp(name: str) -> str:
    return name.partition("-")[2]
