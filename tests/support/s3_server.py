"""`S3Server`: a real SeaweedFS on 127.0.0.1, over http and TLS, for one test run."""

from __future__ import annotations

import ctypes
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.store.spaces_access import SpacesSettings
from tests.support import resigner, servers

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

REGION = "us-east-1"
OTHER_BUCKET = "other-bucket"  # the only one that the read-only key has a right to

_DEADLINE_SECONDS = 60.0
_LOG_LINES_SHOWN = 60
_PORTS = ("master", "volume", "filer", "s3", "https")
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class _Key:
    access: str
    secret: str


@dataclass(frozen=True)
class S3Server:
    """A running server; `stop` ends it and removes all that it wrote.

    One process serves http and https; `over_tls` is the same server, seen over TLS.
    """

    endpoint: str
    ca_bundle: str | None
    _process: subprocess.Popen[bytes]
    _resigner: subprocess.Popen[bytes] | None
    _folder: Path
    _ports: dict[str, int]
    _admin: _Key
    _readonly: _Key

    @classmethod
    def start(
        cls, *, tls: bool = False, yielding: bool = False, within: Path | None = None
    ) -> S3Server:
        """Start a server and wait until it stores objects; raises with its log if it does not.

        It keeps its files in a new folder `within` another, by default that for temporary files.

        With `yielding` it takes, when it is ready, only the processor time that nobody else wants,
        for measurements of what would share the processors with no store. It then has no session
        of its own: Linux may share the processors out by session first, and heeds policies only
        within one.
        """
        servers.allow("S3 server")
        folder = Path(tempfile.mkdtemp(prefix="s3-server-", dir=within))
        ports = _free_ports()
        admin, readonly = (_Key(secrets.token_hex(10), secrets.token_hex(20)) for _ in range(2))
        _write_identities(folder / "identities.json", admin, readonly)
        _write_certificate(folder)
        process = _launch(folder, ports, yielding=yielding)
        offset = resigner.clock_offset()
        before = None
        if offset:
            before, ports = _resign(folder, ports, offset, [admin, readonly])
        server = cls(
            endpoint=f"http://127.0.0.1:{ports['s3']}",
            ca_bundle=None,
            _process=process,
            _resigner=before,
            _folder=folder,
            _ports=ports,
            _admin=admin,
            _readonly=readonly,
        )
        try:
            server._wait_until_ready()
            if yielding:
                server._yield()
        except BaseException:
            server.stop()
            raise
        return server.over_tls if tls else server

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def over_tls(self) -> S3Server:
        """This server at its https address, with the authority that signed its certificate."""
        return replace(
            self,
            endpoint=f"https://127.0.0.1:{self._ports['https']}",
            ca_bundle=str(self._folder / "ca.pem"),
        )

    def settings(self, bucket: str, **overrides: Any) -> SpacesSettings:
        """Settings of a key with all rights; `overrides` are fields of `SpacesSettings`."""
        settings = SpacesSettings(
            api_key=self._admin.access,
            api_secret=self._admin.secret,
            region=REGION,
            bucket=bucket,
            endpoint=self.endpoint,
            ca_bundle=self.ca_bundle,
        )
        return replace(settings, **overrides)

    def readonly_settings(self, bucket: str) -> SpacesSettings:
        """Settings of a key that may only read, and only in `OTHER_BUCKET`."""
        return self.settings(
            bucket, api_key=self._readonly.access, api_secret=self._readonly.secret
        )

    def settings_of_new_bucket(self) -> SpacesSettings:
        """Settings of a key with all rights to a new, empty bucket that nobody else uses."""
        name = f"bucket-{uuid.uuid4().hex}"
        self.create_bucket(name)
        return self.settings(name)

    def create_bucket(self, name: str) -> None:
        """Make an empty bucket, with room: SeaweedFS takes 0.2 s for the first object of one.

        On a busy host that would be longer than tests wait that are about servers which hang.
        """
        client = self.client()
        client.create_bucket(Bucket=name)
        client.put_object(Bucket=name, Key="first", Body=b"first")
        client.delete_object(Bucket=name, Key="first")

    def client(self) -> S3Client:
        """A plain boto3 client with all rights, to see from outside what is stored."""
        return _client(self.endpoint, self.ca_bundle, self._admin)

    def stop(self) -> None:
        """Kill the server (it takes long to answer SIGTERM); stopping twice is allowed."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._resigner is not None:
            self._resigner.kill()
            self._resigner.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        for port in self._ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _yield(self) -> None:
        """Let all its threads yield; those that they start will do the same."""
        eager = True
        while eager:
            eager = False
            for thread in Path(f"/proc/{self.pid}/task").iterdir():
                with suppress(ProcessLookupError):  # it has ended
                    if os.sched_getscheduler(int(thread.name)) != os.SCHED_IDLE:
                        os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
                        eager = True

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _DEADLINE_SECONDS
        client, problem = self.client(), "nothing was tried"
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                buckets = {found["Name"] for found in client.list_buckets()["Buckets"]}
                if OTHER_BUCKET not in buckets:
                    client.create_bucket(Bucket=OTHER_BUCKET)
                # The volumes come up after the list of buckets does.
                client.put_object(Bucket=OTHER_BUCKET, Key="ready", Body=b"ready")
            except (BotoCoreError, ClientError) as error:
                problem = str(error)
            else:
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.05)
        lines = (self._folder / "log").read_text(errors="replace").splitlines()
        raise RuntimeError(
            f"SeaweedFS did not get ready (exit code {self._process.poll()}): {problem}\n"
            + "\n".join(lines[-_LOG_LINES_SHOWN:])
        )


@cache
def _client(endpoint: str, ca_bundle: str | None, key: _Key) -> S3Client:
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=key.access,
        aws_secret_access_key=key.secret,
        verify=ca_bundle,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=10,
        ),
    )
    return client


def _launch(folder: Path, ports: dict[str, int], *, yielding: bool) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).parent / "weed"
    (folder / "data").mkdir()
    arguments = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "filer": "true",
        "s3": "true",
        "master.port": ports["master"],
        "master.port.grpc": ports["master.grpc"],
        "master.telemetry": "false",
        "volume.port": ports["volume"],
        "volume.port.grpc": ports["volume.grpc"],
        "volume.max": 10000,  # each bucket takes some: with 50, the eighth bucket answers 500
        "filer.port": ports["filer"],
        "filer.port.grpc": ports["filer.grpc"],
        "filer.localSocket": folder / "filer.sock",
        "s3.port": ports["s3"],
        "s3.port.grpc": ports["s3.grpc"],
        "s3.port.https": ports["https"],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": folder / "s3.sock",
        "s3.config": folder / "identities.json",
        "s3.autoCreateBucket": "false",
        "s3.cert.file": folder / "cert.pem",
        "s3.key.file": folder / "key.pem",
    }
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                str(program),
                "-logtostderr=true",
                "server",
                *(f"-{name}={value}" for name, value in arguments.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            # Nobody's ~/.seaweedfs, and one volume for a bucket instead of seven.
            env={
                "PATH": os.defpath,
                "HOME": str(folder),
                "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
            },
            start_new_session=not yielding,
            process_group=0 if yielding else None,  # `stop` kills the group
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - it takes no lock
        )


def _resign(
    folder: Path, ports: dict[str, int], offset: timedelta, keys: list[_Key]
) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """Put a `Resigner` before the server; its process, and the ports to use now."""
    seen = _free_ports()
    process = resigner.start(
        {
            "upstream": f"http://127.0.0.1:{ports['s3']}",
            "http": seen["s3"],
            "https": seen["https"],
            "keys": {key.access: key.secret for key in keys},
            "offset": offset.total_seconds(),
            "certificate": str(folder / "cert.pem"),
            "private_key": str(folder / "key.pem"),
        }
    )
    return process, {**ports, "s3": seen["s3"], "https": seen["https"]}


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports() -> dict[str, int]:
    """A port for each listener, from below those that the kernel gives to clients."""
    names = [name for port in _PORTS for name in (port, f"{port}.grpc")]
    found: dict[str, int] = {}
    for port in random.sample(range(12000, 32000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found[names[len(found)]] = port
        if len(found) == len(names):
            return found
    raise RuntimeError("no free ports on 127.0.0.1")


def _write_identities(path: Path, admin: _Key, readonly: _Key) -> None:
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": key.access, "secretKey": key.secret}],
            "actions": actions,
        }
        for name, key, actions in (
            ("admin", admin, ["Admin", "Read", "Write", "List", "Tagging"]),
            ("readonly", readonly, [f"Read:{OTHER_BUCKET}", f"List:{OTHER_BUCKET}"]),
        )
    ]
    path.write_text(json.dumps({"identities": identities}))


def _write_certificate(folder: Path) -> None:
    import trustme  # noqa: PLC0415 - `python -m benchmarks --help` works without

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
