"""What can go wrong with a backup, beyond what databases and stores raise themselves.

One file, because the codes are one list.
"""

from __future__ import annotations

from shared.errors import AppError, DatabaseError


class BackupError(AppError):
    """The root of this tree."""

    code = "backup_error"


class LeaseHeld(BackupError):
    """Another run holds the run lease of this host; `run_id` names it when it is known."""

    code = "run_in_progress"

    def __init__(self, run_id: str | None) -> None:
        named = f"run {run_id}" if run_id else "another run"
        super().__init__(
            f"{named} is in progress on this host",
            "Wait until it is over (./bot backups runs), then try again.",
        )
        self.run_id = run_id

    def particulars(self) -> dict[str, object]:
        """The run that is in the way."""
        return {"run_id": self.run_id}


class RunInterrupted(BackupError):
    """The run was asked to stop, and stopped at a safe place; by default, as the process ends."""

    code = "interrupted"

    def __init__(
        self,
        message: str = "the run was stopped because the program is shutting down",
        hint: str = "Nothing was published. Start the app again: the scheduler will run it again.",
    ) -> None:
        super().__init__(message, hint)

    @classmethod
    def as_leader(cls) -> RunInterrupted:
        """The end of what a process did because it led, and does no more."""
        return cls(
            "the run was stopped because this process does not lead any more",
            "Nothing was published. Whichever process leads will run it again.",
        )


class RunTimedOut(BackupError):
    """The run took longer than `BACKUP_TIMEOUT`."""

    code = "timeout"


class InternalError(BackupError):
    """A fault of this program; the log has the traceback."""

    code = "internal_error"


class DirectoryUnusable(BackupError):
    """A file or folder below `BACKUP_DIR` cannot be read or written."""

    code = "backup_dir_unusable"


class SnapshotDiffers(BackupError):
    """The copy does not hold what the source held at the instant of the snapshot."""

    code = "snapshot_differs"


class CopyInProgress(BackupError):
    """Another process of this host copies to the second place."""

    code = "copy_in_progress"


class NoSecondPlace(BackupError):
    """There is no second place in the settings."""

    code = "no_second_place"


def no_second_place() -> NoSecondPlace:
    """The error of who asks for it."""
    return NoSecondPlace(
        "there is no second place in the settings",
        "Set the five COPY_ settings in .env; docs/two-places.md has the steps.",
    )


class SnapshotDamaged(SnapshotDiffers):
    """SQLite finds the copy of a `source` damaged; `fault` is what it says."""

    def __init__(self, source: str, fault: str) -> None:
        super().__init__(
            f"the copy of source {source} is damaged since it was made: {fault}",
            "Run it again; if it happens twice, check this host's disk and memory.",
        )
        self.source = source
        self.fault = fault


class ProofFailed(BackupError):
    """The stored bytes are not those that were put, or cannot be restored."""

    code = "proof_failed"


class PointDamaged(ProofFailed):
    """The files of a point of a chain are what its objects make them, and SQLite finds damage."""


class ManifestInvalid(BackupError):
    """A manifest is cut, malformed, or names what it may not name."""

    code = "manifest_invalid"


class ManifestNewer(ManifestInvalid):
    """A manifest is of a format that a later version of this program writes."""

    code = "manifest_newer"


class ManifestUnread(ManifestInvalid):
    """The store has a manifest, and does not return it."""

    code = "manifest_unread"


class SetNotFound(BackupError):
    """No restore point has this id."""

    code = "set_not_found"


class SetDeleted(SetNotFound):
    """A person has deleted the restore point with this id."""


class SeveralInstallations(BackupError):
    """The store has the sets of several installations, and none of this one: a person chooses."""

    code = "several_installations"


class InstanceUnknown(BackupError):
    """The store has no set of an installation with this id."""

    code = "instance_unknown"


class RunNotFound(BackupError):
    """No run has this id."""

    code = "run_not_found"


class SourceUnknown(BackupError):
    """No source has this name."""

    code = "source_unknown"


class SealBroken(BackupError):
    """A sealed file is damaged, or unfolds into something that it should not."""

    code = "seal_broken"


class IncrementBroken(BackupError):
    """An increment does not lead from the state before it to the one that it names."""

    code = "increment_broken"


class ChainTaken(BackupError):
    """Another process has written an object of a chain that this host writes."""

    code = "chain_taken"


class FollowerBusy(BackupError):
    """The follower of this host did not let go of the live databases."""

    code = "follower_busy"


class IdentityMissing(BackupError):
    """A sealed file is encrypted, and no identity is at hand."""

    code = "identity_missing"


class IdentityWrong(BackupError):
    """A sealed file is encrypted for other identities than the ones at hand."""

    code = "identity_wrong"


class KeyMalformed(BackupError):
    """A key file holds no key."""

    code = "key_malformed"


class NoRestorePoint(BackupError):
    """There is nothing that could be restored."""

    code = "no_restore_point"


class TargetOccupied(BackupError):
    """A restore would overwrite a file that it may not overwrite."""

    code = "target_occupied"


class TargetUnusable(BackupError):
    """The folder that was named for restored files cannot take them."""

    code = "target_unusable"


class LinkDangling(BackupError):
    """The path of a source goes over a link to a file that is not there."""

    code = "link_dangling"


class OwnerDiffers(BackupError):
    """This user could not give the restored files the owner that they need."""

    code = "owner_differs"


class NothingToUndo(BackupError):
    """No restore in place was made on this host, or what it replaced is gone."""

    code = "nothing_to_undo"


class NotPinnable(BackupError):
    """What was named is no set that can be pinned, or the label is none."""

    code = "not_pinnable"


class NotDeletable(BackupError):
    """What was named is no set that a person may delete here and now."""

    code = "not_deletable"


class SetNotNamed(BackupError):
    """A restore was to accept an unsigned set, and no set was named."""

    code = "set_not_named"


class RestoreBlocked(BackupError):
    """A restore cannot succeed as things are; `code` and hint are the blocker's."""

    def __init__(self, set_id: str, code: str, message: str, hint: str) -> None:
        super().__init__(f"restore point {set_id}: {message}", hint)
        self.code = code


class PageSizeDiffers(DatabaseError):
    """A copy cannot be written into a live database, whose pages have another size."""


class PruneIncomplete(BackupError):
    """A prune kept objects of dropped sets, because they do not say that they are theirs."""

    code = "prune_incomplete"


class RotationUnfinished(BackupError):
    """Not all that this host holds for its own could be marked with the first key."""

    code = "rotation_unfinished"


class ConfirmationMissing(BackupError):
    """An act that replaces data was asked for without its confirmation."""

    code = "confirmation_missing"


class KitNotShown(BackupError):
    """The emergency kit has the token keys, and would have gone where they do not belong."""

    code = "kit_not_shown"


class IdentityInCheckout(BackupError):
    """An age identity would be written among the files of the program."""

    code = "identity_in_checkout"


class FileUnusable(BackupError):
    """A file or folder that was named to restore from is no backup, or cannot be read."""

    code = "file_unusable"


class FormRefused(BackupError):
    """A form was sent that this page did not make for this login, or that it cannot read."""

    code = "form_refused"


class DrillFailed(BackupError):
    """A rehearsed restore did not give data that the application can use."""

    code = "drill_failed"


class PeriodInvalid(BackupError):
    """A report was asked for since a time that is none, or has not come yet."""

    code = "period_invalid"


class PracticeFailed(BackupError):
    """A practice on sample data did not go as the runbook says, or could not begin."""

    code = "practice_failed"
