"""`delete`: what would go, the id once more, then the act."""

from __future__ import annotations

import argparse
import sys

from backups.cli.commands import outcome
from backups.cli.output import print_json, show
from backups.cli.progress_bars import terminal_progress
from backups.errors import ConfirmationMissing
from backups.service import BackupService
from backups.view import documents, text


def delete(service: BackupService, options: argparse.Namespace) -> int:
    """`delete`: remove one set on purpose; raises `ConfirmationMissing` without its id."""
    plan = service.delete.plan(options.set)
    set_id = plan.backup_set.id
    if not options.json:
        show(text.deletion(plan, service.delete.points(plan)), file=sys.stderr)
    confirmed = options.confirm
    if confirmed is None and sys.stdin.isatty() and not options.json:
        show(f"Type its id to delete it ({set_id}):", file=sys.stderr)
        confirmed = sys.stdin.readline().strip()
    if confirmed != set_id:
        raise ConfirmationMissing(
            f"the deletion of set {set_id} was not confirmed with its id. Nothing was changed",
            f"Read what would go, then: ./bot backups delete {set_id} --confirm {set_id}",
        )
    with terminal_progress(sys.stderr, quiet=options.quiet) as progress:
        ended = service.delete.begin(set_id, progress).execute()
    if options.json:
        print_json(documents.run_document(ended))
    elif ended.error is None:
        show(text.deleted(set_id, service.catalogue.count()))
    return outcome(ended, options)
