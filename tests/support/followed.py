"""`Followed`: an installation whose app follows its databases, and an oracle of its store."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.store.spaces_access import SpacesSettings
from tests.support.app_process import AppProcess
from tests.support.bucket_oracle import FolderBucket, S3Bucket
from tests.support.chain_oracle import ChainOracle, Point
from tests.support.installation import (
    TOKEN_ENCRYPTION_KEY,
    Installation,
    bot_secrets,
    installation_in,
    spaces,
)
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

# A step a second, a full before, on a busy machine.
PATIENCE_SECONDS = 90.0
CIPHER = TokenCipher((TOKEN_ENCRYPTION_KEY,))


class Followed:
    """One installation; its app is started by `serving`."""

    def __init__(self, installation: Installation, oracle: ChainOracle) -> None:
        self.installation = installation
        self.oracle = oracle

    @classmethod
    def in_folder(cls, folder: Path, **settings: str) -> Followed:
        """A new one, whose store is the embedded one."""
        installation = installation_in(folder, **settings).make_databases()
        bucket = FolderBucket(folder / "data" / "spaces")
        return cls(installation, ChainOracle(bucket, TOKEN_ENCRYPTION_KEY))

    @classmethod
    def in_bucket(
        cls, folder: Path, server: S3Server, store: SpacesSettings, **settings: str
    ) -> Followed:
        """A new one, whose store is a bucket; `store` may lead there through a proxy."""
        installation = installation_in(folder, **spaces(store), **settings).make_databases()
        bucket = S3Bucket(server.client(), store.bucket)
        return cls(installation, ChainOracle(bucket, TOKEN_ENCRYPTION_KEY))

    @contextmanager
    def serving(self) -> Iterator[AppProcess]:
        """Its app, from the moment on from which it follows."""
        with AppProcess.start(self.installation) as app:
            self.wait_until_it_follows(app)
            yield app

    def grow(self, megabytes: int) -> None:
        """Make `tokens.db` larger by tokens that are as good as any, called `FILLER_…`."""
        with closing(TokenStorage(self.installation.tokens_path, CIPHER)) as tokens:
            for number in range(megabytes * 20):
                tokens.put(f"FILLER_{number}", os.urandom(15_000).hex())

    def status(self, app: AppProcess) -> dict[str, Any]:
        """What the app says of its backups."""
        with app.client() as client:
            document: dict[str, Any] = client.get("/admin/backups").json()
            return document

    def wait_until_it_follows(self, app: AppProcess) -> None:
        """Return when an increment of this app's own is in the store."""
        written = itertools.count()
        before = {point.id for point in self.oracle.points()}

        def follows() -> bool:
            self.put(f"BEGUN_{app.pid}", f"for the {next(written)}th time")
            new = [one for one in self.oracle.points() if one.number and one.id not in before]
            return bool(new)

        eventually(follows, "an increment is stored", seconds=PATIENCE_SECONDS)

    def put(self, key: str, value: str) -> None:
        """Commit a token, as the app does."""
        with closing(TokenStorage(self.installation.tokens_path, CIPHER)) as tokens:
            tokens.put(key, value)

    def value_at(self, point: Point, key: str) -> str | None:
        """The value of a token at a point of the store; None where it has none."""
        rows = self.oracle.rows(point, f"SELECT value FROM tokens WHERE key = '{key}'")
        return CIPHER.decrypt(rows[0][0]).decode(errors="replace") if rows else None

    def is_stored(self, key: str, value: str) -> Point | None:
        """The newest point, when it has this value."""
        points = [point for point in self.oracle.points() if point.counts]
        if not points:
            return None
        found = self.value_at(points[-1], key)
        return points[-1] if found is not None and found.endswith(value) else None

    def wait_until_stored(self, key: str, value: str) -> Point:
        """The first newest point that has this value."""
        return eventually(
            lambda: self.is_stored(key, value),
            f"{key} is in the newest stored point",
            seconds=PATIENCE_SECONDS,
        )

    def elsewhere(self, folder: Path) -> Installation:
        """The same settings on an empty host, which has nothing but them, in `.env`."""
        kept = (
            *bot_secrets(),
            *(name for name in self.installation.settings if name.startswith("SPACES_")),
        )
        lines = [f"{name}={self.installation.settings[name]}\n" for name in kept]
        folder.mkdir()
        (folder / ".env").write_text("".join(lines))
        return Installation(folder)

    def lose_everything(self) -> None:
        """The data folder is gone: databases, shadows, records."""
        shutil.rmtree(self.installation.folder / "data")


class Load:
    """Rotates tokens and sessions without a pause, for the length of a `with` block."""

    def __init__(self, installation: Installation, pause: float = 0.005) -> None:
        self._installation = installation
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="load")
        self.written = 0
        self._failed: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _write(self) -> None:
        try:
            with (
                closing(TokenStorage(self._installation.tokens_path, CIPHER)) as tokens,
                closing(
                    SessionStorage(self._installation.sessions_path, SystemClock())
                ) as sessions,
            ):
                for number in itertools.count():
                    if self._stop.wait(self._pause):
                        return
                    tokens.put(f"LOAD_{number % 50}", f"value-{number}")
                    sessions.create(f"user-{number % 50}")
                    self.written += 1
        except sqlite3.Error as error:
            self._failed = error


def token_of(installation: Installation, key: str) -> str | None:
    """The value of a live token."""
    with closing(TokenStorage(installation.tokens_path, CIPHER)) as tokens:
        return tokens.get(key)
