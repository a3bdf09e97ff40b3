"""`practice`: a loss on sample data, and the real commands that bring it back.

The folder has a `./bot` of its own, which gives the commands no setting but those of the folder's
`.env`: whatever they do, they do it to the sample.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backups.cli.losses import LOOK, LOSSES, TOKENS, Loss, SampleHost, Step
from backups.cli.output import show
from backups.errors import PracticeFailed
from shared.errors import AppError

DEFAULT_LOSS = "lost-disk"
_PROGRAM = Path(__file__).resolve().parents[2]
_TIMEOUT_SECONDS = 600
_MOST_LINES = 20


@dataclass(frozen=True)
class Typed:
    """A command that was executed, and the exit code with which it ended."""

    command: str
    exit_code: int


def practise(options: argparse.Namespace) -> int:
    """`practice`: tell and execute it in a new folder, which is removed unless `--keep` is given.

    Raises `PracticeFailed`; the folder stays then.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="practice-")).resolve()
    except OSError as error:
        raise PracticeFailed(
            f"no folder for the practice can be made: {error.strerror}",
            "Name a folder with room for it: TMPDIR=DIR ./bot backups practice",
        ) from error
    keep = bool(options.keep)
    try:
        document = _Practice(SampleHost(folder), options.loss, quiet=options.json).execute()
    except AppError as error:
        keep = True
        error.hint = f"The folder of the practice was kept: {folder}. {error.hint}".rstrip()
        raise
    finally:
        if not keep:
            shutil.rmtree(folder)
    if options.json:
        show(json.dumps({**document, "folder": str(folder) if keep else None}, indent=2))
    elif keep:
        show(f"\nThe folder was kept. Type on: cd {folder}. Then remove it: rm -r {folder}")
    else:
        show("\nThe folder was removed. To keep one and type on: ./bot backups practice --keep")
    return 0


class _Practice:
    """One practice on a sample host."""

    def __init__(self, host: SampleHost, name: str, *, quiet: bool) -> None:
        self._host = host
        self._name = name
        self._quiet = quiet
        self._typed: list[Typed] = []

    def execute(self) -> dict[str, Any]:
        """All of it, step by step; what it came to. Raises `AppError` where a step fails."""
        loss = LOSSES[self._name]
        self._host.create()
        _write_bot(self._host.folder)
        self._say(
            f"A practice in {self._host.folder}, on sample data and with settings of its own. Your "
            "data and your store are not touched.\n"
        )
        self._do(
            Step(f"Before the loss: a backup of {TOKENS} tokens is made.", "./bot backups run")
        )
        self._say(f"\n*** {loss.what}")
        self._do(*loss.harm)
        self._say("\n*** First, look. These are the first lines of docs/bad-day.md:")
        self._do(*LOOK)
        self._say(f'\n*** Then the lines of the section that fits, "{loss.section}":')
        began = time.monotonic()
        self._do(*loss.remedy)
        seconds = time.monotonic() - began
        tokens = self._check(loss)
        self._say(
            f"\nAll {tokens} tokens are there, and can be decrypted. These lines took "
            f"{seconds:.1f} s. For the real thing: {loss.link}"
        )
        return {
            "loss": self._name,
            "section": loss.link,
            "commands": [vars(typed) for typed in self._typed],
            "tokens": {"expected": loss.tokens, "readable": tokens},
            "seconds": round(seconds, 3),
        }

    def _do(self, *steps: Step) -> None:
        for step in steps:
            self._say(f"\n{step.words}")
            if step.act is not None:
                step.act(self._host)
            if step.command:
                self._type(step)

    def _type(self, step: Step) -> None:
        self._say(f"$ {step.command}")
        _, *arguments = shlex.split(step.command)
        done = subprocess.run(
            ["sh", str(self._host.folder / "bot"), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        self._typed.append(Typed(step.command, done.returncode))
        self._say("".join(f"    {line}\n" for line in done.stdout.splitlines()).rstrip("\n"))
        # A log goes to standard error, too, and says nothing more of what went well.
        last = done.stderr.splitlines()[-_MOST_LINES:]
        if done.returncode and not done.stdout:
            self._say("".join(f"    {line}\n" for line in last).rstrip("\n"))
        if done.returncode not in step.codes:
            raise PracticeFailed(
                f"`{step.command}` ended with {done.returncode}: {last[-1] if last else 'no word'}",
                "Type it there once more to see why.",
            )

    def _check(self, loss: Loss) -> int:
        tokens = self._host.readable_tokens()
        if tokens != loss.tokens:
            raise PracticeFailed(
                f"{tokens} tokens can be decrypted after the restore, and not {loss.tokens}",
                "Look at it there: ./bot backups list",
            )
        return tokens

    def _say(self, text: str) -> None:
        if not self._quiet and text:
            show(text)


def _write_bot(folder: Path) -> None:
    """Write the folder's `./bot`, which runs this program with nothing of its caller's settings."""
    program, python = shlex.quote(str(_PROGRAM)), shlex.quote(sys.executable)
    bot = folder / "bot"
    bot.write_text(
        "#!/bin/sh\n# Of a practice: it knows no setting but those of the .env beside it.\n"
        f"cd {shlex.quote(str(folder))} || exit 1\n"
        f'exec env -i PATH="$PATH" PYTHONPATH={program} {python} -m "$@"\n'
    )
    bot.chmod(0o700)
