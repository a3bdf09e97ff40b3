"""Sealing a snapshot (compress, then encrypt) and unsealing it again, as streams.

The bytes are those of the standard tools: `zstd -d` and `age -d` open them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import Any

from backups.config import SealConfig
from backups.errors import IdentityMissing, IdentityWrong, KeyMalformed, SealBroken
from backups.format.naming import is_encrypted
from backups.sets.seal_streams import (
    BROKEN_HINT,
    CompressingReader,
    ContinuedReader,
    CountedReader,
    HashingWriter,
    Source,
    UnfoldingWriter,
    own_errors,
)
from shared.files import open_private
from shared.store.object_store import CHUNK_BYTES, ByteProgress

SQLITE_MAGIC = b"SQLite format 3\x00"
_AGE_MAGIC = b"age-encryption.org/v1\n"
_MOST_HEADER = 64 * 1024
_ZSTD_LEVEL = 1  # on encrypted tokens higher levels are no smaller, and slower


@dataclass(frozen=True)
class SealedFile:
    """The bytes that are stored for one snapshot; `suffix` follows `.db` in its key."""

    path: Path
    suffix: str
    bytes: int
    sha256: str


def most_sealed_bytes(size: int, config: SealConfig) -> int:
    """The most bytes that a snapshot of this size has when it is sealed; 0 when it is stored as
    it is.

    zstd adds less than 1 in 256 and 64 bytes (`ZSTD_COMPRESSBOUND` in zstd.h), age 16 bytes to
    each 64 KiB, and some 100 for each recipient (https://age-encryption.org/v1).
    """
    if not config.suffix:
        return 0
    return size + size // 128 + 4096 + 200 * len(config.recipients)


def generate_key_pair() -> tuple[str, str]:
    """A new age identity (secret) and its public key."""
    import pyrage  # noqa: PLC0415

    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def seal(snapshot: Path, sha256: str, config: SealConfig, tick: ByteProgress) -> SealedFile:
    """Seal `snapshot` into a file beside it; without compression and keys, it is the snapshot.

    `tick` hears how many bytes of the snapshot are done, and may raise to stop the work.
    """
    if not config.suffix:
        return SealedFile(snapshot, "", snapshot.stat().st_size, sha256)
    path = snapshot.with_name(snapshot.name + config.suffix)
    with snapshot.open("rb") as source, open_private(path) as target:
        reader: Any = CountedReader(source, tick)
        if config.compression == "zstd":
            import zstandard  # noqa: PLC0415

            compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
            reader = CompressingReader(
                compressor.stream_reader(reader, size=snapshot.stat().st_size), reader
            )
        sink = HashingWriter(target)
        if config.recipients:
            import pyrage  # noqa: PLC0415

            keys = [pyrage.x25519.Recipient.from_str(text) for text in config.recipients]
            with own_errors(reader, sink), _age_errors(path.name):
                pyrage.encrypt_io(reader, sink, keys)
        else:
            while chunk := reader.read(CHUNK_BYTES):
                sink.write(chunk)
        target.flush()
    return SealedFile(path, config.suffix, sink.size, sink.hexdigest())


def unseal_into(
    sink: HashingWriter, source: Source, suffix: str, name: str, identity_file: Path | None
) -> None:
    """Write what is inside the sealed `source` to `sink`, on its way; errors say `name`.

    Raises `IdentityMissing` when it is encrypted and there is no identity, `IdentityWrong` when no
    identity fits, `SealBroken` when the bytes are damaged, and what reading `source` or writing to
    `sink` raises.
    """
    writer = UnfoldingWriter(sink, name) if ".zst" in suffix else sink
    with own_errors(sink, writer, source):
        if is_encrypted(suffix):
            _decrypt(source, writer, name, identity_file)
        else:
            while chunk := source.read(CHUNK_BYTES):
                writer.write(chunk)
        writer.flush()


def _decrypt(source: Source, writer: Any, name: str, identity_file: Path | None) -> None:
    import pyrage  # noqa: PLC0415

    identities = load_identities(identity_file)
    whole = _with_sound_header(source, name)
    try:
        with _age_errors(name):
            pyrage.decrypt_io(whole, writer, identities)
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise IdentityWrong(
                f"{name} cannot be decrypted with any identity in {identity_file}",
                "Use the identity whose public key was in BACKUP_AGE_RECIPIENTS when it was made.",
            ) from None
        raise SealBroken(f"{name} cannot be decrypted: {error}", BROKEN_HINT) from None


def _with_sound_header(source: Source, name: str) -> ContinuedReader:
    """The whole of `source`; raises `SealBroken` unless the header of an age file ends soon enough.

    It has an entry of some 100 bytes for each recipient, and each costs a computation for each
    identity. Its last line begins with `---` (https://age-encryption.org/v1).
    """
    head = b""
    while len(head) < _MOST_HEADER and (piece := source.read(_MOST_HEADER - len(head))):
        head += piece
    if not head.startswith(_AGE_MAGIC) or b"\n---" not in head:
        raise SealBroken(
            f"{name} is damaged: it has no age header of at most {_MOST_HEADER:,} bytes",
            BROKEN_HINT,
        )
    return ContinuedReader(head, source)


def load_identities(identity_file: Path | None) -> list[Any]:
    """The age identities in a file; raises `IdentityMissing`, `KeyMalformed`."""
    import pyrage  # noqa: PLC0415

    if identity_file is None:
        raise IdentityMissing(
            "this backup is encrypted, and no age identity to decrypt it is set",
            "Copy the identity file to this host, and set BACKUP_AGE_IDENTITY_FILE to it "
            "(for a restore or drill alone: --identity FILE).",
        )
    try:
        if not stat.S_ISREG(identity_file.stat().st_mode):  # a pipe can be read once, or never
            raise OSError(EINVAL, "it is not a regular file")
        lines = identity_file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityMissing(
            f"the identity file {identity_file} cannot be read: {_why(error)}",
            "Check its path (--identity, or BACKUP_AGE_IDENTITY_FILE), owner and mode.",
        ) from None
    secrets = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    try:
        identities = [pyrage.x25519.Identity.from_str(secret) for secret in secrets]
    except pyrage.IdentityError:
        identities = []
    if not identities:
        raise KeyMalformed(
            f"{identity_file} holds no age identity (AGE-SECRET-KEY-1...)",
            "Make a pair with: ./bot backups keygen",
        )
    return identities


def _why(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not text"
    return error.strerror or type(error).__name__


def identities_fit(identity_file: Path, recipients: Sequence[str]) -> bool:
    """Whether an identity in the file opens what is sealed for one of `recipients`."""
    return any(str(one.to_public()) in recipients for one in load_identities(identity_file))


@contextmanager
def _age_errors(name: str) -> Iterator[None]:
    """pyrage raises `OSError` without a number for a broken stream."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise SealBroken(f"{name} is damaged: {error}", BROKEN_HINT) from None
