"""Bodies of increments: compressed, and encrypted where backups are; and back again, bounded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from backups.errors import IncrementBroken
from backups.format.increment import SourceChange
from backups.sets.seal import unseal_into
from backups.sets.seal_streams import HashingWriter

_LEVEL = 1
_HINT = "Choose another restore point: ./bot backups list"


def fold(raw: bytes, recipients: Sequence[str] = ()) -> bytes:
    """What is stored of a body: zstd, and an age file of that where there are `recipients`."""
    import zstandard  # noqa: PLC0415 - loaded when it is needed

    folded = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(raw)
    if not recipients:
        return folded
    import pyrage  # noqa: PLC0415

    keys = [pyrage.x25519.Recipient.from_str(one) for one in recipients]
    sealed = io.BytesIO()
    pyrage.encrypt_io(io.BytesIO(folded), sealed, keys)
    return sealed.getvalue()


def unfold(
    body: bytes | memoryview, change: SourceChange, key: str, identity_file: Path | None = None
) -> bytes:
    """The body of one source as it was before it was folded; `key` is that of its object.

    Its SHA-256 is compared first. Raises `IncrementBroken` for another body than `change`
    describes, `SealBroken`, `IdentityMissing`, `IdentityWrong`.
    """
    name = f"the body of {change.source} in {key}"
    if sha256(body).hexdigest() != change.sha256:
        raise IncrementBroken(f"{name} is not what its line describes", _HINT)
    size = change.changed * (4 + change.page_size)
    raw = io.BytesIO()
    sink = HashingWriter(raw, size)
    suffix = ".zst.age" if key.endswith(".age") else ".zst"
    unseal_into(sink, io.BytesIO(body), suffix, name, identity_file)
    if sink.size != size:
        raise IncrementBroken(f"{name} has {sink.size:,} bytes inside, not {size:,}", _HINT)
    return raw.getvalue()
