"""`restore --from` and `--identity` on the command line: exit codes, lines to type, no store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backups.sets.seal import generate_key_pair
from shared.clock import SystemClock
from tests.support.bench import open_bench
from tests.support.generations import SOURCES, generation_of, live_path
from tests.support.installation import Installation, installation_in

pytestmark = pytest.mark.slow

SECRET, PUBLIC = generate_key_pair()
NOBODY_LISTENS = {
    "SPACES_API_KEY": "key",
    "SPACES_API_SECRET": "secret",
    "SPACES_REGION": "us-east-1",
    "SPACES_BUCKET": "bucket",
    "SPACES_ENDPOINT": "http://127.0.0.1:9",
}


def in_hand(tmp_path: Path, **settings: str) -> tuple[Installation, Path]:
    """`genset` as a flat copy of its set, `genlive` in the live databases."""
    hand = tmp_path / "hand"
    hand.mkdir()
    with open_bench(tmp_path, settings=settings, clock=SystemClock()) as bench:
        bench.write("genset")
        made = bench.made()
        bench.write("genlive")
        for key in (bench.manifest_key(made.id), *(one.key for one in made.objects)):
            (hand / Path(key).name).write_bytes(bench.bytes_of(key))
    return installation_in(tmp_path), hand


def generations(installation: Installation) -> set[str]:
    """What the live databases hold."""
    return {generation_of(live_path(installation.folder, source)) for source in SOURCES}


def test_a_set_in_hand_is_restored_while_the_store_is_away(tmp_path: Path) -> None:
    """The line that the plan prints does it, exactly as printed; undo works after it."""
    installation, _ = in_hand(tmp_path)
    installation = installation.with_settings(**NOBODY_LISTENS)
    plan = installation.cli("restore", "--from", "hand")
    assert plan.returncode == 0, plan.stderr
    assert "from hand (set, proof full, mark valid)" in plan.stdout.splitlines()[0]
    assert "LOST: 12 rows of tokens, only in the live data" in plan.stdout
    assert "back: 12 rows of tokens, only in the restore point" in plan.stdout
    lines = [line.split() for line in plan.stdout.splitlines() if "--in-place --yes" in line]
    assert lines[0][:3] == ["./bot", "backups", "restore"]
    done = installation.cli(*lines[0][2:])
    assert done.returncode == 0, done.stderr
    assert generations(installation) == {"genset"}
    assert installation.cli("restore", "--undo", "--yes").returncode == 0
    assert generations(installation) == {"genlive"}


def test_what_is_no_backup_ends_with_two_and_the_path(tmp_path: Path) -> None:
    """As any other wrong argument; the plan as JSON names what it is from."""
    installation, _ = in_hand(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for given in ("nothing", "pipe", "data/tokens.db"):
        done = installation.cli("restore", "--from", given, "--to", "out")
        assert done.returncode == 2
        assert done.stderr.startswith(f"{given} ")
    assert installation.cli("restore", "--undo", "--from", "hand").returncode == 2
    document = installation.json("restore", "--from", "hand")
    assert document["from"] == "hand"
    assert document["place"] == "hand"


def test_files_in_hand_need_no_keys_into_a_folder(tmp_path: Path) -> None:
    """A person has chosen them; the marks were not checked, and that is said."""
    installation, _ = in_hand(tmp_path)
    without = installation.with_settings(TOKEN_ENCRYPTION_KEYS="")
    done = without.cli("restore", "--from", "hand", "--to", "out")
    assert done.returncode == 0, done.stderr
    assert "marks were not checked" in done.stderr
    assert generation_of(tmp_path / "out" / "tokens.db") == "genset"
    assert without.cli("restore", "--from", "hand", "--in-place", "--yes").returncode == 2


def test_a_sealed_set_is_restored_with_an_identity_for_this_once(tmp_path: Path) -> None:
    """From the store and from files, on a host whose `.env` has none; a wrong file is named."""
    installation, _ = in_hand(tmp_path, BACKUP_AGE_RECIPIENTS=PUBLIC, BACKUP_LOCAL_COPIES="0")
    identity = tmp_path / "identity.txt"
    identity.write_text(SECRET)
    identity.chmod(0o644)
    blocked = installation.cli("restore")
    assert blocked.returncode == 1
    assert "--identity FILE" in blocked.stdout
    plan = installation.cli("restore", "--identity", "identity.txt")
    assert plan.returncode == 0, plan.stdout
    assert "warning identity_exposed" in plan.stdout
    assert "chmod 600 identity.txt" in plan.stdout
    assert "--identity identity.txt --in-place --yes" in plan.stdout
    for more in ([], ["--from", "hand"]):
        done = installation.cli(
            "restore", *more, "--identity", "identity.txt", "--in-place", "--yes"
        )
        assert done.returncode == 0, done.stderr
        assert generations(installation) == {"genset"}
        assert installation.cli("restore", "--undo", "--yes").returncode == 0
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "none.txt").write_text("no key")
    (tmp_path / "other.txt").write_text(generate_key_pair()[0])
    for name, why in (
        ("gone.txt", "gone.txt cannot be read: No such file"),
        ("pipe", "pipe cannot be read: it is not a regular file"),
        ("none.txt", "none.txt holds no age identity"),
    ):
        done = installation.cli("restore", "--identity", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert why in done.stderr
    wrong = installation.cli("restore", "--identity", "other.txt")
    assert wrong.returncode == 1
    assert "identity_wrong" in wrong.stdout
    assert PUBLIC in wrong.stdout
