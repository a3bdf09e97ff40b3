"""What the commands do: ask the service, print its answer, return an exit code.

One file, because each command is a few lines.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from backups.cli.output import print_json, show
from backups.cli.progress_bars import terminal_progress
from backups.decisions.restore_plan import RestorePlan
from backups.errors import ConfirmationMissing
from backups.model import BackupSet, Run
from backups.operations.planning.given import GivenRestore
from backups.service import BackupService
from backups.view import documents, restore_text, text
from backups.view import report as report_text
from backups.view.headline import headline
from backups.view.report_document import report_document
from backups.view.restore_text import Afterwards
from shared.clock import format_utc
from shared.errors import StoreError
from shared.settings.load import Settings

DONE, FAILED, USAGE, UNHEALTHY, BUSY = 0, 1, 2, 3, 4

# These have something to show also while the database that hosts share is away.
ONLY_LOOK = ("status", "doctor", "list", "runs", "report", "kit")


def run(service: BackupService, options: argparse.Namespace) -> int:
    """`run`: make a set now."""
    with terminal_progress(sys.stderr, quiet=options.quiet) as progress:
        ended = service.backup.begin(only=options.only, progress=progress).execute()
    made = service.catalogue.get(ended.set_id) if ended.set_id else None
    if options.json:
        document = documents.run_document(ended)
        print_json({**document, "set": documents.set_document(made) if made else None})
    elif made is not None:
        show(text.set_made(made, service.status()))
    code = outcome(ended, options)
    return UNHEALTHY if code == DONE and made is not None and made.suspect else code


def verify(service: BackupService, options: argparse.Namespace) -> int:
    """`verify`: prove a stored set again."""
    with terminal_progress(sys.stderr, quiet=options.quiet) as progress:
        ended = service.verify.begin(options.set, progress=progress).execute()
    if options.json:
        print_json(documents.run_document(ended))
    elif ended.error is None and ended.set_id:
        level = service.catalogue.get(ended.set_id).proof
        show(text.verified(ended.set_id, level))
    return outcome(ended, options)


def status(service: BackupService, options: argparse.Namespace) -> int:
    """`status`: how the backups stand."""
    found = service.status()
    if options.json:
        print_json(documents.status_document(found))
    else:
        show(text.status(found, service.clock.now()))
    return DONE if found.health.healthy else UNHEALTHY


def list_sets(service: BackupService, options: argparse.Namespace) -> int:
    """`list`: restore points."""
    error = _look(service)
    catalogue = service.catalogue
    for warning in (*catalogue.unread.warnings(), *catalogue.chains.warnings()):
        show(f"{warning.message}\n{warning.hint}", file=sys.stderr)
    found, more = service.list_sets(options.limit, options.before)
    ranges = service.list_ranges()
    if options.json:
        listed_at = service.catalogue.listed_at()
        document = documents.sets_document(
            found, more=more, ranges=ranges, listed_at=listed_at, error=error
        )
        print_json(document)
    else:
        show(text.sets(found, more=more) + text.ranges(ranges))
    return DONE


def _look(service: BackupService) -> StoreError | None:
    """Ask the store; say so where only this host's records answer. Raises where it has none."""
    error = service.own_sets.look()
    if error is not None:
        known = service.catalogue.listed_at()
        since = f", as of {format_utc(known)}" if known else ""
        show(f"From local records only{since}: {error.message}\n{error.hint}", file=sys.stderr)
    return error


def list_runs(service: BackupService, options: argparse.Namespace) -> int:
    """`runs`: the run log, or one run of it."""
    if options.run is not None:
        found, more = [service.get_run(options.run)], False
        document = documents.run_document(found[0])
    else:
        found, more = service.list_runs(options.limit, options.before)
        document = documents.runs_document(found, more=more)
    if options.json:
        print_json(document)
    else:
        show(text.runs(found, more=more))
    return DONE


def restore(service: BackupService, options: argparse.Namespace) -> int:
    """`restore`: the plan, or the act."""
    if options.undo:
        return _undo(service, options)
    with service.given.open(
        options.from_path, at=options.at, only=options.only, identity_file=options.identity
    ) as given:
        return _restore(service, given, options)


def _restore(service: BackupService, given: GivenRestore, options: argparse.Namespace) -> int:
    acts = options.to is not None or options.in_place
    plan = given.plan(
        options.set,
        in_place=options.to is None,
        accept_unsigned=options.accept_unsigned,
        compares=not acts,  # who has decided already does not wait for a comparison
    )
    if not options.json:
        show(
            restore_text.plan(plan, to=options.to, ask=not acts),
            file=sys.stderr if acts else sys.stdout,
        )
    if not acts:
        if options.json:
            print_json(documents.plan_document(plan))
        return FAILED if plan.blockers else DONE
    if options.in_place and not options.yes:
        raise ConfirmationMissing(
            "the restore replaces live data, and it was not confirmed. Nothing was changed",
            "Read the plan above, then add --yes.",
        )
    with terminal_progress(sys.stderr, quiet=options.quiet) as progress:
        ended = given.begin(plan, to=options.to, check=options.check, progress=progress).execute()
    if ended.error is not None:
        ended = replace(ended, error=given.explained(ended.error))
    if options.json:
        print_json(documents.run_document(ended))
    elif ended.error is None:
        show(restore_text.restored(plan, ended, options.to, _afterwards(service, plan, ended)))
        if owed := len(service.facts.owed_asides()):
            show(text.owed_asides(owed), file=sys.stderr)
    return outcome(ended, options)


def _afterwards(service: BackupService, plan: RestorePlan, ended: Run) -> Afterwards | None:
    """What a restore has left; None after one into a folder."""
    record = service.facts.last_restore()
    if record is None or record.run_id != ended.id:
        return None
    status = service.status()
    return Afterwards(
        rows=service.plan_detail.rows_now(plan),
        app=status.owner,
        kept=any(one.kind != "nothing" for one in record.replaced),
        next_run_at=status.next_run_at,
    )


def _undo(service: BackupService, options: argparse.Namespace) -> int:
    record = service.undo.undoable()
    if not options.yes:
        if options.json:
            print_json(documents.undo_document(record))
        else:
            show(restore_text.undo_plan(record))
        return DONE
    with terminal_progress(sys.stderr, quiet=options.quiet) as progress:
        ended = service.undo.begin(progress).execute()
    if options.json:
        print_json(documents.run_document(ended))
    elif ended.error is None:
        show(
            "What the last restore had replaced is back. "
            "To reverse this: ./bot backups restore --undo"
        )
    return outcome(ended, options)


def drill(service: BackupService, options: argparse.Namespace) -> int:
    """`drill`: rehearse a full restore."""
    with terminal_progress(sys.stderr, quiet=options.quiet) as progress:
        ended = service.drill.begin(identity_file=options.identity, progress=progress).execute()
    report = service.drill.last_report()
    if options.json:
        document = documents.run_document(ended)
        print_json({**document, "drill": documents.drill_document(report) if report else None})
    elif ended.error is None and report is not None:
        show(text.drilled(report))
    return outcome(ended, options)


def prune(service: BackupService, options: argparse.Namespace) -> int:
    """`prune`: apply retention, or show what it would do."""
    if options.dry_run:
        _look(service)
        found = service.own_sets.plan_prune()
        if options.json:
            print_json(documents.retention_document(found))
        else:
            show(text.retention(found))
        return DONE
    ended = service.prune.begin().execute()
    if options.json:
        print_json(documents.run_document(ended))
    elif ended.error is None:
        show(text.pruned(service.catalogue.count()))
    return outcome(ended, options)


def accept(service: BackupService, options: argparse.Namespace) -> int:
    """`accept`: clear a set of suspicion, or accept the loss of what is missing."""
    if options.missing:
        missing = service.acceptance.accept_missing()
        if options.json:
            print_json(documents.missing_document(missing))
        else:
            show(text.accepted_missing(missing, still=len(service.own_sets.missing_points())))
        return DONE
    found = service.acceptance.accept(options.set)
    if options.json:
        print_json(documents.set_document(found))
    else:
        show(text.accepted(found, service.own_sets.newest_made()))
    return DONE


def pin(service: BackupService, options: argparse.Namespace) -> int:
    """`pin`: keep a set whatever retention says."""
    return _pinned(service.pins.pin(options.set, options.label), options)


def unpin(service: BackupService, options: argparse.Namespace) -> int:
    """`unpin`: keep it no longer."""
    return _pinned(service.pins.unpin(options.set), options)


def _pinned(found: BackupSet, options: argparse.Namespace) -> int:
    if options.json:
        print_json(documents.set_document(found))
    else:
        show(text.pinned(found))
    return DONE


def report(service: BackupService, options: argparse.Namespace) -> int:
    """`report`: the evidence of a period; what it shows does not change the exit code."""
    found = service.report(options.since)
    if options.json:
        print_json(report_document(found))
    else:
        show(report_text.report(found))
    return DONE


def adopt(service: BackupService, options: argparse.Namespace) -> int:
    """`adopt`: count the sets of an earlier installation as this one's."""
    if options.accept_unsigned:
        return _accept_unsigned(service, options)
    found = service.adoption.adopt(options.instance)
    if options.json:
        print_json(documents.adopted_document(found))
    else:
        show(text.adopted(found))
    return DONE


def _accept_unsigned(service: BackupService, options: argparse.Namespace) -> int:
    with terminal_progress(sys.stderr, quiet=options.quiet) as progress:
        ended = service.unsigned_sets.begin(options.instance, progress).execute()
    marked = service.later_marks.count(options.instance)
    if options.json:
        print_json({**documents.run_document(ended), "marked": marked})
    else:
        show(text.marked(options.instance, marked))
    return outcome(ended, options)


def doctor(service: BackupService, options: argparse.Namespace, settings: Settings) -> int:
    """`doctor`: examine everything."""
    from backups.doctor import examine  # noqa: PLC0415 - no other command pays for it

    examination = examine(settings, service, write=options.write, notify=options.notify)
    if options.json:
        print_json(documents.doctor_document(examination))
    else:
        show(text.examination(examination, headline(service.status(), service.clock.now())))
    return DONE if examination.healthy else UNHEALTHY


def outcome(ended: Run, options: argparse.Namespace) -> int:
    """The exit code of a run that is over; says why it failed."""
    if ended.error is None:
        return DONE
    if not options.json:
        show(f"{ended.error.message}\n{ended.error.hint}", file=sys.stderr)
    return FAILED
