"""`Peer`: what the programs that are not ours have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from benchmarks.contenders.contender import WHOLE, Command, Times
from benchmarks.databases import Pair
from benchmarks.place import Place


class Peer(ABC):
    """A program with a bucket, which is a new one for each full backup."""

    name: str
    in_go: bool = False

    def __init__(self, place: Place, pair: Pair) -> None:
        self.place = place
        self.pair = pair
        self.folder = place.new_folder("peer")
        self.bucket = place.new_bucket()

    def prepare(self) -> None:
        """An empty bucket in place of the last."""
        self.place.drop_bucket(self.bucket)
        self.bucket = self.place.new_bucket()

    def prepare_again(self) -> None:
        """What the last backup left is to stay."""
        return

    def backup(self) -> Times:
        """With the start of all its processes."""
        return {WHOLE: self.backup_command().run()}

    @abstractmethod
    def backup_command(self) -> Command:
        """What backs both databases up."""

    @abstractmethod
    def restore_command(self, into: Path) -> Command:
        """What writes both databases of the last backup into an empty folder."""

    def close(self) -> None:
        """Forget the bucket."""
        self.place.drop_bucket(self.bucket)

    def shell(self, line: str, **environment: str) -> Command:
        """A line of shell, in the folder of this contender."""
        all_of_it = {**self.place.aws_environment(), **environment}
        own_session = not self.place.yields  # nobody yields to another session
        return Command(("sh", "-c", line), all_of_it, self.folder, own_session)
