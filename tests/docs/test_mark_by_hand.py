"""The ten lines of `docs/format.md` that check a mark without this program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.bench import open_bench
from tests.support.installation import REPOSITORY
from tests.support.marks import TOKEN_ENCRYPTION_KEY

MOST_LINES = 10


def test_the_check_by_hand_says_what_the_program_says(tmp_path: Path) -> None:
    """It confirms every marked document of a set, refuses a changed one, and has ten lines."""
    page = (REPOSITORY / "docs" / "format.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in script.splitlines() if line]) <= MOST_LINES
    with open_bench(tmp_path) as bench:
        made = bench.made()
        assert bench.verify(made.id).status == "succeeded"
        stored = [one.key for one in bench.store.list("backups/") if one.key.endswith(".json")]
        documents = {key: bench.bytes_of(key) for key in stored}
    marked = {key: body for key, body in documents.items() if b'"mac"' in body}
    assert len(marked) >= 2
    changed = {key: body.replace(b'"full"', b'"none"') for key, body in marked.items()}

    def check(key: str, body: bytes) -> str:
        path = tmp_path / "document.json"
        path.write_bytes(body)
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), key.removeprefix("backups/")],
            env={"TOKEN_ENCRYPTION_KEYS": TOKEN_ENCRYPTION_KEY},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert {check(key, body) for key, body in marked.items()} == {"True"}
    assert {check(key, body) for key, body in changed.items() if body != marked[key]} == {"False"}
