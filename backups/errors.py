"""What can go wrong with a backup, beyond what databases and stores raise themselves."""

from __future__ import annotations

from shared.errors import AppError


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
            "Wait until it is over (python -m backups runs), then try again.",
        )
        self.run_id = run_id


class RunInterrupted(BackupError):
    """The run was asked to stop, and stopped at a safe place."""

    code = "interrupted"


class InternalError(BackupError):
    """A fault of this program; the log has the traceback."""

    code = "internal_error"


class DirectoryUnusable(BackupError):
    """A file or folder below `BACKUP_DIR` cannot be read or written."""

    code = "backup_dir_unusable"


class SnapshotDiffers(BackupError):
    """The copy does not hold what the source held at the instant of the snapshot."""

    code = "snapshot_differs"


class ProofFailed(BackupError):
    """The stored bytes are not those that were put, or cannot be restored."""

    code = "proof_failed"


class ManifestInvalid(BackupError):
    """A manifest is cut, malformed, or names what it may not name."""

    code = "manifest_invalid"


class ManifestNewer(ManifestInvalid):
    """A manifest is of a format that a later version of this program writes."""

    code = "manifest_newer"


class SetNotFound(BackupError):
    """No restore point has this id."""

    code = "set_not_found"


class RunNotFound(BackupError):
    """No run has this id."""

    code = "run_not_found"


class SourceUnknown(BackupError):
    """No source has this name."""

    code = "source_unknown"
