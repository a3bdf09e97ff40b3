"""The commands about keys: the emergency kit, and a new pair of age keys."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from backups.cli.output import print_json, show
from backups.errors import IdentityInCheckout, KitNotShown, TargetOccupied
from backups.kit import kit_of
from backups.service import BackupService
from backups.sets.seal import generate_key_pair
from backups.status import kit_kept_at
from backups.view import kit_sheet, text
from shared.errors import DatabaseUnreadable
from shared.files import open_private
from shared.settings.load import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
IDENTITY = "backup-identity.txt"


def kit(service: BackupService, options: argparse.Namespace, settings: Settings) -> int:
    """`kit`: print the emergency kit, or write it, or note that a person keeps it elsewhere.

    The token keys go to a terminal or into a new file; `--json` has their fingerprints.
    """
    found, now = kit_of(settings), service.clock.now()
    if options.kept:
        kept = service.facts.kit.keep(found.fingerprint, now)
        if not options.json:
            show(kit_sheet.confirmed(kept.at))
    elif options.to is not None:
        _refuse_checkout(options.to, "Name a file elsewhere: ./bot backups kit --to FILE")
        sheet = kit_sheet.sheet(found, settings.token_encryption_keys, now=now)
        _write_private(options.to, f"{sheet}\n", again="./bot backups kit --to FILE")
        if not options.json:
            show(kit_sheet.written(options.to))
    elif not options.json:
        if not sys.stdout.isatty():
            raise KitNotShown(
                "standard output is not a terminal, so the emergency kit, which has the token "
                "keys, was not printed",
                "Type it at a terminal: ./bot backups kit. Or write a new file: "
                "./bot backups kit --to FILE",
            )
        show(kit_sheet.sheet(found, settings.token_encryption_keys, now=now))
        show(f"\n{kit_sheet.printed()}", file=sys.stderr)
    if options.json:
        print_json(kit_sheet.document(found, kit_kept_at(service.config, service.facts)))
    return 0


def keygen(options: argparse.Namespace) -> int:
    """`keygen`: a new age key pair; the secret half goes into a new file, 0600.

    Raises `IdentityInCheckout` for a file among those of the program, unless that is asked for.
    """
    path: Path = options.to or _home() / IDENTITY
    if not options.in_checkout:
        _refuse_checkout(
            path,
            "Name a file elsewhere: ./bot backups keygen --to FILE. To write it there all the "
            "same, add --in-checkout.",
        )
    secret, public = generate_key_pair()
    again = "./bot backups keygen --to FILE"
    _write_private(path, f"# public key: {public}\n{secret}\n", again=again)
    if options.json:
        print_json({"public_key": public, "identity_file": str(path)})
    else:
        show(text.key_pair(public, path))
    return 0


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise DatabaseUnreadable(
            "this user has no home directory to write the identity into",
            "Name a file: ./bot backups keygen --to FILE",
        ) from error


def _refuse_checkout(path: Path, hint: str) -> None:
    """Raise `IdentityInCheckout` for a file among those of the program."""
    if path.resolve().is_relative_to(CHECKOUT):
        raise IdentityInCheckout(
            f"{path} is in the folder of the program, where a copy of it or a commit could take "
            "the secret along",
            hint,
        )


def _write_private(path: Path, content: str, *, again: str) -> None:
    """Write a new 0600 file; raises `TargetOccupied`, or `DatabaseUnreadable` if it cannot."""
    try:
        with open_private(path) as file:
            file.write(content.encode())
    except FileExistsError:
        raise TargetOccupied(
            f"{path} exists already, and was not overwritten", f"Name another file: {again}"
        ) from None
    except OSError as error:
        raise DatabaseUnreadable(
            f"{path} cannot be written: {error.strerror}", f"Name another file: {again}"
        ) from error
