"""What ours replaces: two shell scripts from cron, `cp` of the live file and `aws s3 cp`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders.contender import Command
from benchmarks.contenders.peer import Peer
from benchmarks.databases import Pair
from benchmarks.place import Place

_SCRIPT = """\
#!/bin/sh
# {name}: from cron at 01:00 UTC
set -e
DAY=$(date -u +%Y-%m-%d)
echo "$(date -u) backup of {name} begins" >> backup_{name}.log
cp {database} {name}_$DAY.db
{aws} --endpoint-url {endpoint} s3 cp --only-show-errors \\
    {name}_$DAY.db s3://$SPACES_BUCKET/backups/{name}_$DAY.db >> backup_{name}.log 2>&1
echo "$(date -u) backup of {name} is done" >> backup_{name}.log
"""


class Scripts(Peer):
    """The two scripts, one after the other, or `at_once`, as cron starts them."""

    def __init__(self, place: Place, pair: Pair, aws: str, *, at_once: bool = False) -> None:
        super().__init__(place, pair)
        self.name = "two shell scripts at once" if at_once else "two shell scripts"
        self._aws = f"{aws} --endpoint-url {place.endpoint}"
        for path in pair.paths:
            (self.folder / f"backup_{path.stem}.sh").write_text(
                _SCRIPT.format(name=path.stem, database=path, aws=aws, endpoint=place.endpoint)
            )
        self._line = (
            "sh backup_tokens.sh & first=$!; sh backup_sessions.sh && wait $first"
            if at_once
            else "sh backup_tokens.sh && sh backup_sessions.sh"
        )

    def backup_command(self) -> Command:
        """Both scripts."""
        return self.shell(self._line, SPACES_BUCKET=self.bucket)

    def restore_command(self, into: Path) -> Command:
        """`aws s3 cp` back of both: there has been no script for it."""
        return self.shell(
            " && ".join(
                f"{self._aws} s3 cp --only-show-errors"
                f" s3://{self.bucket}/backups/{name}_$(date -u +%Y-%m-%d).db {into}/{name}.db"
                for name in ("tokens", "sessions")
            )
        )
