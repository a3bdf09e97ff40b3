"""The manifest of a set and the verdicts on it: JSON out, JSON in, everything checked. Pure.

`docs/format.md` describes the documents. What is read here may have been written by a
stranger with a bucket key: nothing in it is used before it has passed.

One file, because all documents beside a set are read and refused in one way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from backups.errors import ManifestInvalid, ManifestNewer
from backups.format import naming
from backups.format.document import read_as, read_object
from backups.model import (
    BackupSet,
    DrillReport,
    ProofLevel,
    SetKind,
    StoredObject,
    Trigger,
    Verdict,
)
from shared.adapters import adapter_of
from shared.bounded import (
    MOST_OBJECTS,
    MOST_REASONS,
    MOST_RECIPIENTS,
    MOST_TEXT,
    Count,
    Instant,
    Name,
    Sequence,
    SetId,
    Sha256,
    Text,
    Texts,
)
from shared.clock import format_utc
from shared.printable import printable

FORMAT = 1
_MOST = 10**12  # rows of a database, or seconds of a drill, that nobody has


@dataclass(frozen=True)
class Manifest:
    """The table of contents of one set, as it is stored."""

    format: int
    id: SetId
    kind: SetKind
    instant: Instant
    trigger: Trigger
    instance: Name
    complete: bool
    proof: ProofLevel
    proven_at: Instant
    application: Text
    sqlite: Text
    objects: Annotated[tuple[StoredObject, ...], Field(min_length=1, max_length=MOST_OBJECTS)]
    suspect: Texts | None = None
    token_key: Name | None = None
    recipients: Annotated[tuple[Name, ...], Field(max_length=MOST_RECIPIENTS)] = ()
    sequence: Sequence | None = None


@dataclass(frozen=True)
class _VerdictDocument:
    format: int
    set_id: SetId
    at: Instant
    proof: ProofLevel
    reason: Text
    kind: Literal["proof"] = "proof"
    manifest: Sha256 | None = None


@dataclass(frozen=True)
class _DrillDocument:
    """`seconds` has a fraction in the reports of earlier versions."""

    set_id: SetId
    at: Instant
    seconds: Annotated[float, Field(ge=0, lt=_MOST)]
    rows: Annotated[int, Field(ge=0, lt=_MOST)]
    unreadable: Count
    failure: None
    milliseconds: Annotated[int, Field(ge=0, lt=1000)] = 0


def dump_manifest(backup_set: BackupSet, *, application: str, sqlite: str) -> bytes:
    """The bytes of the manifest of a set that has just been proven."""
    if backup_set.proven_at is None:
        raise ValueError("a set without a proof has no manifest")
    manifest = Manifest(
        format=FORMAT,
        id=backup_set.id,
        kind=backup_set.kind,
        instant=backup_set.created_at,
        trigger=backup_set.trigger,
        instance=backup_set.instance,
        complete=backup_set.complete,
        proof=backup_set.proof,
        proven_at=backup_set.proven_at,
        application=application,
        sqlite=sqlite,
        objects=backup_set.objects,
        suspect=_shown(backup_set.suspect),
        token_key=backup_set.token_key,
        recipients=backup_set.recipients,
        sequence=backup_set.sequence,
    )
    return adapter_of(Manifest).dump_json(manifest, indent=2) + b"\n"


def _shown(reasons: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """As many reasons as a reader shows: a table of any name may have lost rows."""
    return reasons and tuple(printable(one, MOST_TEXT) for one in reasons[:MOST_REASONS])


def load_manifest(document: bytes, *, prefix: str, expected_id: str | None = None) -> BackupSet:
    """The set that a manifest describes.

    Raises `ManifestNewer` for a later format and `ManifestInvalid` for anything that does
    not fit: a cut document, an id that is not `expected_id` or not its instant, an object
    outside `prefix`, under a name that is not its source's, or a source named twice.
    """
    what = f"the manifest of set {expected_id}" if expected_id else "the manifest"
    _refuse_newer(document, what)
    manifest = read_as(adapter_of(Manifest), document, what, _HINT)
    fault = _fault(manifest, prefix, expected_id)
    if fault:
        raise ManifestInvalid(f"{what} is not valid: {fault}", _HINT)
    return BackupSet(
        id=manifest.id,
        kind=manifest.kind,
        created_at=manifest.instant,
        trigger=manifest.trigger,
        instance=manifest.instance,
        complete=manifest.complete,
        proven_at=manifest.proven_at,
        proof=manifest.proof,
        suspect=manifest.suspect,
        objects=manifest.objects,
        token_key=manifest.token_key,
        recipients=manifest.recipients,
        sequence=manifest.sequence,
        application=manifest.application,
    )


def dump_verdict(verdict: Verdict) -> bytes:
    """The bytes of a verdict; of a long reason, its beginning."""
    shown = replace(verdict, reason=printable(verdict.reason, MOST_TEXT))
    return (
        adapter_of(_VerdictDocument).dump_json(_VerdictDocument(FORMAT, **vars(shown)), indent=2)
        + b"\n"
    )


def dump_drill(report: DrillReport) -> bytes:
    """The bytes of a drill's report; whole numbers only, so that they can be marked."""
    milliseconds = round(report.seconds * 1000)
    found = adapter_of(DrillReport).dump_python(report, mode="json")
    found |= {"seconds": milliseconds // 1000, "milliseconds": milliseconds % 1000}
    return json.dumps(found, indent=2).encode() + b"\n"


@dataclass(frozen=True)
class Aside:
    """That a restore passed a set over for the older set `restored`; `aside` false: no longer.

    `by` is the run of the restore, or of the undo that took it back.
    """

    format: int
    set_id: SetId
    at: Instant
    by: Name
    restored: Name
    aside: bool


def dump_aside(aside: Aside) -> bytes:
    """The bytes of a note that a set is set aside, or no longer."""
    return adapter_of(Aside).dump_json(aside, indent=2) + b"\n"


def load_aside(document: bytes, *, expected_id: str) -> Aside:
    """The note; raises `ManifestNewer` and `ManifestInvalid` like `load_manifest`."""
    what = f"a note that set {expected_id} is set aside"
    _refuse_newer(document, what)
    aside = read_as(adapter_of(Aside), document, what, _HINT)
    if aside.set_id != expected_id:
        raise ManifestInvalid(f"{what} speaks of set {aside.set_id!r}", _HINT)
    return aside


def load_verdict(document: bytes, *, expected_id: str) -> Verdict:
    """The verdict; raises `ManifestNewer` and `ManifestInvalid` like `load_manifest`."""
    what = f"a verdict on set {expected_id}"
    _refuse_newer(document, what)
    verdict = read_as(adapter_of(_VerdictDocument), document, what, _HINT)
    if verdict.set_id != expected_id:
        raise ManifestInvalid(f"{what} speaks of set {verdict.set_id!r}", _HINT)
    return Verdict(verdict.set_id, verdict.at, verdict.proof, verdict.reason, verdict.manifest)


def load_drill(document: bytes, *, expected_id: str) -> DrillReport:
    """The report of a drill; raises `ManifestInvalid` when it is cut, malformed or another's.

    Only good drills leave one: a failure, which would be a text of any length, is refused.
    """
    what = f"the report of a drill of set {expected_id}"
    found = read_as(adapter_of(_DrillDocument), document, what, _HINT)
    if found.set_id != expected_id:
        raise ManifestInvalid(f"{what} speaks of set {found.set_id!r}", _HINT)
    return DrillReport(
        set_id=found.set_id,
        at=found.at,
        seconds=found.seconds + found.milliseconds / 1000,
        rows=found.rows,
        unreadable=found.unreadable,
        failure=found.failure,
    )


def with_verdict(backup_set: BackupSet, verdict: Verdict) -> BackupSet:
    """The set as a later proof left it; one that failed makes it suspect."""
    if verdict.proof != "none":
        return replace(backup_set, proof=verdict.proof, proven_at=verdict.at)
    reason = f"a proof at {format_utc(verdict.at)} failed: {verdict.reason}"
    suspect = (*(backup_set.suspect or ()), reason)
    return replace(backup_set, proof="none", proven_at=None, suspect=suspect)


_HINT = "Choose another restore point (./bot backups list)."


def _refuse_newer(document: bytes, what: str) -> None:
    found = _members(document, what).get("format")
    if isinstance(found, int) and found > FORMAT:
        raise ManifestNewer(
            f"{what} has format {printable(repr(found), 40)}, but this program reads formats up to "
            f"{FORMAT}",
            "Use the newer version of this program that wrote it.",
        )
    if type(found) is not int or found != FORMAT:
        raise ManifestInvalid(f"{what} has an unknown format: {printable(repr(found), 40)}", _HINT)


def _members(document: bytes, what: str) -> dict[str, object]:
    try:
        return read_object(document, fractions=True)
    except ValueError as error:
        fault = printable(str(error), 200)
        raise ManifestInvalid(f"{what} cannot be read: {fault}", _HINT) from None


def _fault(manifest: Manifest, prefix: str, expected_id: str | None) -> str | None:
    if expected_id is not None and manifest.id != expected_id:
        return f"it names set {manifest.id!r}"
    if naming.set_id(manifest.instant) != manifest.id:
        return f"its id {manifest.id!r} does not match its instant"
    sources = [stored.source for stored in manifest.objects]
    if len(set(sources)) != len(sources):
        return "it names a source twice"
    for stored in manifest.objects:
        if not naming.is_own_key(prefix, stored.source, manifest.instant, stored.key):
            return f"{stored.key!r} is no key of source {stored.source} in a set of this instant"
    return None
