"""Sealing: every form comes back, the standard tools open it, and damage has a name."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backups.config import Compression, SealConfig
from backups.errors import IdentityMissing, IdentityWrong, KeyMalformed, SealBroken
from backups.sets.seal import (
    SQLITE_MAGIC,
    SealedFile,
    generate_key_pair,
    identities_fit,
    load_identities,
    seal,
)
from tests.support.unsealing import unseal

KEYS = [generate_key_pair() for _ in range(3)]
FORMS: list[tuple[Compression, int]] = [("none", 0), ("zstd", 0), ("none", 1), ("zstd", 2)]
CONTENTS = {
    "empty": b"",
    "one byte": b"x",
    "a header": SQLITE_MAGIC,
    "zeros": bytes(5_000_000),
    "noise": os.urandom(3_000_001),
    "a mebibyte": os.urandom(1024 * 1024),
}


def plan(form: tuple[Compression, int]) -> SealConfig:
    """A form as a plan: the compression, and how many recipients there are."""
    return SealConfig(form[0], tuple(public for _, public in KEYS[: form[1]]))


def identity(folder: Path, number: int = 0) -> Path:
    """The identity file of a key pair."""
    path = folder / f"identity-{number}"
    path.write_text(f"# a comment\n\n{KEYS[number][0]}\n")
    return path


def sealed(folder: Path, content: bytes, form: tuple[Compression, int]) -> SealedFile:
    """The sealed file of a snapshot with that content."""
    path = folder / "tokens.db"
    path.write_bytes(content)
    return seal(path, hashlib.sha256(content).hexdigest(), plan(form), lambda done: None)


def unsealed(folder: Path, file: SealedFile, *, most: int | None = None, number: int = 0) -> bytes:
    """What is inside."""
    target = folder / "unsealed"
    target.unlink(missing_ok=True)
    unseal(file.path, file.suffix, target, identity(folder, number), most=most)
    return target.read_bytes()


def tool(name: str, *arguments: str | Path) -> None:
    """Run a standard tool; fails with the name of its package when it is not installed."""
    assert shutil.which(name), f"`{name}` is not installed: apt-get install {name}"
    subprocess.run([name, *arguments], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_comes_back(
    tmp_path: Path, form: tuple[Compression, int], content: bytes
) -> None:
    """What was sealed is described truly, and unseals to the same bytes, in a 0600 file."""
    file = sealed(tmp_path, content, form)
    raw = file.path.read_bytes()
    assert file.suffix == plan(form).suffix
    assert (file.bytes, file.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert unsealed(tmp_path, file, most=len(content)) == content
    assert (tmp_path / "unsealed").stat().st_mode & 0o777 == 0o600
    if file.suffix:
        assert file.path.stat().st_mode & 0o777 == 0o600
        assert file.path.name == f"tokens.db{file.suffix}"
    if ".age" in file.suffix:
        assert not raw.startswith(SQLITE_MAGIC)
        assert raw.startswith(b"age-encryption.org/v1\n")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=5000), form=st.sampled_from(FORMS))
def test_any_bytes_come_back(content: bytes, form: tuple[Compression, int]) -> None:
    """Sealing and unsealing are inverses for all bytes, in every form."""
    with TemporaryDirectory() as folder:
        file = sealed(Path(folder), content, form)
        assert unsealed(Path(folder), file, most=len(content)) == content


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_standard_tools_open_every_form(
    tmp_path: Path, form: tuple[Compression, int], content: bytes
) -> None:
    """`age` and `zstd` alone bring the snapshot back."""
    path = sealed(tmp_path, content, form).path
    if path.suffix == ".age":
        tool("age", "-d", "-i", identity(tmp_path), "-o", path.with_suffix(""), path)
        path = path.with_suffix("")
    if path.suffix == ".zst":
        (tmp_path / "tokens.db").unlink()
        tool("zstd", "-d", "-q", path)
        path = path.with_suffix("")
    assert path.read_bytes() == content


def test_what_the_standard_tools_seal_is_opened(tmp_path: Path) -> None:
    """A file that a person sealed with `zstd` and `age` unseals here too."""
    content = os.urandom(300_000)
    (tmp_path / "x").write_bytes(content)
    tool("zstd", "-q", "-19", tmp_path / "x")
    tool("age", "-r", KEYS[0][1], "-o", tmp_path / "x.zst.age", tmp_path / "x.zst")
    for suffix in (".zst", ".zst.age"):
        target = tmp_path / f"opened{suffix}"
        unseal(tmp_path / f"x{suffix}", suffix, target, identity(tmp_path), most=len(content))
        assert target.read_bytes() == content


def test_compression_is_of_level_1_with_a_checksum(tmp_path: Path) -> None:
    """A `.zst` carries its size and a checksum of its content."""
    import zstandard  # noqa: PLC0415

    raw = sealed(tmp_path, CONTENTS["noise"], ("zstd", 0)).path.read_bytes()
    parameters = zstandard.get_frame_parameters(raw)
    assert parameters.has_checksum
    assert parameters.content_size == len(CONTENTS["noise"])


def test_each_of_several_recipients_opens(tmp_path: Path) -> None:
    """Every identity whose public key was named opens the file, and no other does."""
    file = sealed(tmp_path, b"secret", ("zstd", 2))
    assert unsealed(tmp_path, file, number=0) == b"secret"
    assert unsealed(tmp_path, file, number=1) == b"secret"
    with pytest.raises(IdentityWrong):
        unsealed(tmp_path, file, number=2)
    both = tmp_path / "both"
    both.write_text(f"{KEYS[2][0]}\n{KEYS[1][0]}\n")
    unseal(file.path, file.suffix, tmp_path / "opened", both, most=None)
    assert (tmp_path / "opened").read_bytes() == b"secret"


def test_without_an_identity(tmp_path: Path) -> None:
    """Without an identity file, or with one that is not there, the error says what to bring."""
    file = sealed(tmp_path, b"secret", ("none", 1))
    for missing in (None, tmp_path / "not there", tmp_path):
        (tmp_path / "opened").unlink(missing_ok=True)
        with pytest.raises(IdentityMissing) as refused:
            unseal(file.path, file.suffix, tmp_path / "opened", missing, most=None)
        assert "BACKUP_AGE_IDENTITY_FILE" in refused.value.hint


@pytest.mark.parametrize(
    "text",
    ["", "# only a comment\n", "AGE-SECRET-KEY-1BROKEN", "age1notasecret", "\x00\x01", KEYS[0][1]],
)
def test_a_broken_identity_file_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    """A file without an identity is named, its content is not repeated."""
    path = tmp_path / "identity"
    path.write_text(text)
    with pytest.raises(KeyMalformed, match="identity") as refused:
        load_identities(path)
    assert "AGE-SECRET-KEY-1BROKEN" not in refused.value.message
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IdentityMissing):
        load_identities(binary)


def test_whether_identities_fit_is_known_without_a_file(tmp_path: Path) -> None:
    """An identity is compared with the recipients that a manifest names."""
    assert identities_fit(identity(tmp_path), [KEYS[1][1], KEYS[0][1]])
    assert not identities_fit(identity(tmp_path), [KEYS[1][1]])


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
@pytest.mark.parametrize("content", [CONTENTS["noise"][:200_000], b"short"], ids=["long", "short"])
def test_a_flipped_bit_anywhere_is_found(
    tmp_path: Path, form: tuple[Compression, int], content: bytes
) -> None:
    """One changed bit in a sealed file never unseals to other bytes in silence."""
    file = sealed(tmp_path, content, form)
    raw = file.path.read_bytes()
    for at in sorted({0, 3, 5, 20, len(raw) // 2, len(raw) - 20, len(raw) - 2, len(raw) - 1}):
        if not 0 <= at < len(raw):
            continue
        for bit in (1, 128):
            file.path.write_bytes(raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :])
            # A bit that means nothing to the format may be any.
            with suppress(SealBroken, IdentityWrong):
                assert unsealed(tmp_path, file, most=len(content)) == content


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_cut_anywhere_is_found(
    tmp_path: Path, form: tuple[Compression, int], content: bytes
) -> None:
    """A sealed file that lacks its end, a little or most of it, is refused by name."""
    file = sealed(tmp_path, content, form)
    raw = file.path.read_bytes()
    cuts = {1, 2, 4, 5, 10, 13, 100, 65_536, 131_072, 140_000, 262_144, len(raw) // 2, len(raw)}
    for cut in sorted(cut for cut in cuts if cut <= len(raw)):
        file.path.write_bytes(raw[: len(raw) - cut])
        for most in (len(content), None):
            with pytest.raises(SealBroken):
                unsealed(tmp_path, file, most=most)


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
def test_what_follows_the_end_is_found(tmp_path: Path, form: tuple[Compression, int]) -> None:
    """Bytes behind a sealed file are refused by name."""
    file = sealed(tmp_path, b"content" * 1000, form)
    file.path.write_bytes(file.path.read_bytes() + b"more of it, " * 100)
    with pytest.raises(SealBroken):
        unsealed(tmp_path, file)


@pytest.mark.parametrize("form", [("zstd", 0), ("zstd", 1)], ids=str)
def test_a_decompression_bomb_stops_at_the_size_it_should_have(
    tmp_path: Path, form: tuple[Compression, int]
) -> None:
    """A small file that unfolds into much is refused before it has written much."""
    file = sealed(tmp_path, bytes(200_000_000), form)
    assert file.bytes < 100_000
    with pytest.raises(SealBroken, match="1000"):
        unsealed(tmp_path, file, most=1000)
    assert (tmp_path / "unsealed").stat().st_size <= 1000


class Listening(Exception):
    """What a listener raises, of a class that no library knows."""


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
@pytest.mark.parametrize(
    "failure", [Listening("stop"), OSError(28, "no space"), KeyboardInterrupt()]
)
def test_what_a_listener_raises_comes_out_unchanged(
    tmp_path: Path, form: tuple[Compression, int], failure: BaseException
) -> None:
    """An error of the one who listens is not turned into one of a library."""
    path = tmp_path / "tokens.db"
    path.write_bytes(CONTENTS["noise"])

    def tick(done: int) -> None:
        if done > 1_000_000:
            raise failure

    with pytest.raises(type(failure)) as raised:
        seal(path, "", plan(form), tick)
    assert raised.value is failure


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
def test_progress_reaches_the_end(tmp_path: Path, form: tuple[Compression, int]) -> None:
    """The listener hears ever more bytes, up to all of them."""
    path = tmp_path / "tokens.db"
    path.write_bytes(CONTENTS["noise"])
    heard: list[int] = []
    seal(path, "", plan(form), heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == len(CONTENTS["noise"])


def test_without_compression_and_keys_the_snapshot_is_what_is_stored(tmp_path: Path) -> None:
    """An unsealed object is the snapshot, byte for byte, and no second file is written."""
    file = sealed(tmp_path, CONTENTS["noise"], ("none", 0))
    assert file.path == tmp_path / "tokens.db"
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.db"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Neither sealing nor unsealing writes over a file that is there."""
    file = sealed(tmp_path, b"content", ("zstd", 0))
    with pytest.raises(FileExistsError):
        seal(tmp_path / "tokens.db", "", plan(("zstd", 0)), lambda done: None)
    with pytest.raises(FileExistsError):
        unseal(file.path, file.suffix, tmp_path / "tokens.db", None, most=None)
