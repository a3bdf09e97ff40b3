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
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
import trustme
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.spaces_settings import SpacesSettings

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

REGION = "us-east-1"
OTHER_BUCKET = "other-bucket"  # the only one that the read-only key may use

_DEADLINE_SECONDS = 60.0
_LOG_LINES_SHOWN = 60
_LISTENERS = ("master", "volume", "filer", "s3")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class _Key:
    access: str
    secret: str


class S3Server:
    """A running server; `stop` ends it and removes what it wrote.

    One process serves http and https: `over_tls` is the same server, seen over TLS.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], folder: Path, ports: dict[str, int], *, tls: bool
    ) -> None:
        self._process = process
        self._folder = folder
        self._ports = ports
        self._tls = tls
        identities = json.loads((folder / "identities.json").read_text())["identities"]
        keys = [_Key(**{"access": c["accessKey"], "secret": c["secretKey"]})
                for c in (identity["credentials"][0] for identity in identities)]
        self._admin, self._readonly = keys
