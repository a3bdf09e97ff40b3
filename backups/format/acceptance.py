"""An acceptance: a person has looked at a suspect set, and clears what was known of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from backups.format.notes.note import dump_note, load_note
from shared.bounded import Instant, SetId, Sha256, Text

FORMAT = 1
MOST_LISTED = 5_000
_HINT = "Accept the set again: ./bot backups accept SET"

_Proof = Annotated[str, Field(pattern=r"^proof-\d{8}T\d{6}Z$")]


@dataclass(frozen=True)
class Acceptance:
    """What is cleared: `reasons` of the manifest, and the verdicts `proofs`, by their names.

    `manifest` is the SHA-256 of the manifest that the person has looked at; None for a legacy
    group. Earlier versions name neither: all that came before the acceptance is cleared then.
    """

    set_id: SetId
    at: Instant
    format: int = FORMAT
    kind: Literal["accept"] = "accept"
    manifest: Sha256 | None = None
    reasons: Annotated[tuple[Text, ...] | None, Field(max_length=MOST_LISTED)] = None
    proofs: Annotated[tuple[_Proof, ...] | None, Field(max_length=MOST_LISTED)] = None

    def clears_reason(self, reason: str) -> bool:
        """Whether a reason of the manifest is cleared."""
        return self.reasons is None or reason in self.reasons

    def clears_proof(self, name: str, *, accepted: str) -> bool:
        """Whether the failed proof `name` is cleared; `accepted` is the stamp of the acceptance."""
        if self.proofs is None:
            return name.partition("-")[2] <= accepted
        return name in self.proofs


def dump_acceptance(acceptance: Acceptance) -> bytes:
    """The bytes of the document, to be signed."""
    return dump_note(acceptance)


def load_acceptance(document: bytes, *, expected_id: str) -> Acceptance:
    """The acceptance; raises `ManifestInvalid`."""
    what = f"an acceptance of set {expected_id}"
    return load_note(
        Acceptance, document, what=what, hint=_HINT, expected_id=expected_id, version=FORMAT
    )
