"""What ours replaces: two shell scripts from cron, `cp` of the live file and `aws s3 cp`."""

from __future__ import annotations

from pathlib import Path

from benchmarks import measured
from benchmarks.contenders.contender import WHOLE, Times
from benchmarks.databases import Pair
from benchmarks.place import Place

_SCRIPT = """\
#!/bin/sh
# {name}: from cron at 01:00 UTC
set -e
DAY=$(date -u +%Y-%m-%d)
echo "$(date -u) backup of {name} begins" >> {folder}/backup_{name}.log
cp {database} {folder}/{name}_$DAY.db
{aws} --endpoint-url {endpoint} s3 cp --only-show-errors \
    {folder}/{name}_$DAY.db s3://{bucket}/backups/{name}_$DAY.db >> {folder}/backup_{name}.log 2>&1
echo "$(date -u) backup of {name} is done" >> {folder}/backup_{name}.log
"""


class Scripts:
    """The two scripts, one after the other, or `at_once`, as cron starts them."""

    def __init__(self, place: Place, pair: Pair, aws: str, *, at_once: bool = False) -> None:
        self.name = "two shell scripts at once" if at_once else "two shell scripts"
        self._place = place
        self._aws = aws
        self._folder = place.new_folder("scripts")
        self._bucket = place.new_bucket()
        for path in pair.paths:
            (self._folder / f"backup_{path.stem}.sh").write_text(
                _SCRIPT.format(
                    name=path.stem,
                    database=path,
                    folder=self._folder,
                    aws=aws,
                    endpoint=place.endpoint,
                    bucket=self._bucket,
                )
            )
        self.command = (
            "sh backup_tokens.sh & first=$!; sh backup_sessions.sh && wait $first"
            if at_once
            else "sh backup_tokens.sh && sh backup_sessions.sh"
        )

    def backup(self) -> Times:
        """Both."""
        environment = self._place.aws_environment()
        seconds = measured.run(["sh", "-c", self.command], environment, self._folder)
        return {WHOLE: seconds}

    def restore(self, into: Path) -> float:
        """`aws s3 cp` back of both: there has been no script for it."""
        commands = [
            f"{self._aws} --endpoint-url {self._place.endpoint} s3 cp --only-show-errors"
            f" s3://{self._bucket}/backups/{name}_$(date -u +%Y-%m-%d).db {into}/{name}.db"
            for name in ("tokens", "sessions")
        ]
        return measured.run(
            ["sh", "-c", " && ".join(commands)], self._place.aws_environment(), self._folder
        )

    def close(self) -> None:
        """Forget the bucket."""
        self._place.drop_bucket(self._bucket)
