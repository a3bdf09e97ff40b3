"""`WarmPopen`: `python -m MODULE` as a fork of a process that has imported everything already.

To start Python and to import the app costs a processor as much as most of what tests do with
it. The fork is a process like any other, with its own environment, folder and streams, ends as
Python ends, and shares nothing with its siblings. What a start from nothing does is tried where
a test starts `sys.executable` by itself: `tests/app/test_app_import.py` above all.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import inspect
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import botocore.session
from botocore.loaders import create_loader

_REPOSITORY = Path(__file__).resolve().parents[2]
_IMPORTED = (
    "app",
    "backups.cli.main",
    "backups.cli.commands",
    "uvicorn.main",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "tests.support.bench",
    "tests.support.generations",
    "tests.support.installation",
)
_MOST_BYTES = 100_000  # of one order; Linux takes twice as much
_NUMBER = struct.Struct("i")
_PR_SET_PDEATHSIG = 1
_STREAMS = 3
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


class WarmPopen(subprocess.Popen[Any]):
    """`subprocess.Popen`, for a command `[sys.executable, "-m", MODULE, …]`.

    Without `cwd` it runs in the repository, without `env` in an environment that has nothing of
    this process's but where programs and temporary files are. With `dies_with_parent` it is
    killed when this process ends.
    """

    def __init__(
        self,
        args: Sequence[str],
        *,
        cwd: Path = _REPOSITORY,
        env: Mapping[str, str] | None = None,
        dies_with_parent: bool = False,
        **more: Any,
    ) -> None:
        self._dies_with_parent = dies_with_parent
        self._news = -1
        super().__init__(args, cwd=cwd, env=env or _environment(), **more)

    def _execute_child(self, *given: Any) -> None:
        names = inspect.signature(subprocess.Popen._execute_child).parameters  # type: ignore[attr-defined]
        asked = dict(zip(names, (self, *given), strict=True))
        python, option, module, *arguments = asked["args"]
        assert (python, option) == (sys.executable, "-m"), asked["args"]
        read_end, write_end = os.pipe()
        order = {
            "module": module,
            "arguments": arguments,
            "cwd": str(asked["cwd"]),
            "env": asked["env"],
            "own_session": asked["start_new_session"],
            "dies_with_parent": self._dies_with_parent,
        }
        streams = [
            own if stream == -1 else stream
            for own, stream in enumerate((asked["p2cread"], asked["c2pwrite"], asked["errwrite"]))
        ]
        try:
            connection = _server(_read_at_the_start(asked["env"]))
            message = json.dumps(order).encode()
            assert len(message) < _MOST_BYTES
            socket.send_fds(connection, [message], [*streams, write_end])
        finally:
            os.close(write_end)
            self._close_pipe_fds(*(asked[name] for name in _PIPES))  # type: ignore[attr-defined]
        self._news = read_end
        self.pid = self._next_number()
        self._child_created = True

    def _next_number(self) -> int:
        news = os.read(self._news, _NUMBER.size)
        assert news, "the process that was to fork has died"
        number: int = _NUMBER.unpack(news)[0]
        return number

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """What `os.waitpid` would say: the process is a child of the one that forked it."""
        os.set_blocking(self._news, not wait_flags & os.WNOHANG)
        try:
            status = self._next_number()
        except BlockingIOError:
            return 0, 0
        os.close(self._news)
        return self.pid, status

    def _internal_poll(self, _deadstate: int | None = None, *_: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def run_warm(
    args: Sequence[str], *, timeout: float = 60, text: bool = True, **more: Any
) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run` with `capture_output`, for what `WarmPopen` takes."""
    kept = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with WarmPopen(args, text=text, **{**kept, **more}) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(args, process.returncode, output, errors)


def run_cold(args: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """As `run_warm`, for a command that is none of `WarmPopen`'s: with the whole environment."""
    return subprocess.run(
        args, cwd=_REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    # What apprise imports warns of Python 3.13.
    warnings = "error,ignore:'imghdr' is deprecated"
    return {**kept, "PYTHONPATH": str(_REPOSITORY), "PYTHONWARNINGS": warnings}


def _read_at_the_start(environment: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What of an environment Python and the dynamic linker read when they start."""
    prefixes = ("PYTHON", "LD_", "FAKE", "NO_FAKE", "DONT_FAKE", "REAL_CLOCK")
    return tuple(sorted(item for item in environment.items() if item[0].startswith(prefixes)))


@cache
def _server(environment: tuple[tuple[str, str], ...]) -> socket.socket:
    """The connection to a process with that environment, which forks what it is told."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm_python", str(its.fileno())],
            cwd=_REPOSITORY,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Fork for each order; the order, in the process that is to carry it out."""
    waiting: dict[int, int] = {}

    def reap(*_: object) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                news = waiting.pop(pid)
                with suppress(BrokenPipeError):
                    os.write(news, _NUMBER.pack(status))
                os.close(news)

    signal.signal(signal.SIGCHLD, reap)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to all of a terminal's group
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, _STREAMS + 1)
        if not message:
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if not pid:
            break
        *streams, news = descriptors
        waiting[pid] = news
        for stream in streams:
            os.close(stream)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    order: dict[str, Any] = json.loads(message)
    if order["own_session"]:
        os.setsid()
    if order["dies_with_parent"]:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    *streams, news = descriptors
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.write(news, _NUMBER.pack(os.getpid()))
    connection.detach()
    os.closerange(_STREAMS, os.sysconf("SC_OPEN_MAX"))
    return order


def _become(order: dict[str, Any]) -> None:
    """Carry out an order, as if Python had just been started for it."""
    coerced = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}  # PEP 538
    os.environ.clear()
    os.environ.update({**coerced, **order["env"]})
    time.tzset()
    os.chdir(order["cwd"])
    sys.path[0] = order["cwd"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = TextIOWrapper(
            open(number, "wb" if number else "rb", closefd=False),  # noqa: SIM115
            errors="backslashreplace" if name == "stderr" else None,
            line_buffering=name == "stderr" or os.isatty(number),
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.argv = ["-m", *order["arguments"]]
    sys.modules["__main__"] = ModuleType("__main__")
    code: int | None = None
    try:
        runpy._run_module_as_main(order["module"])  # type: ignore[attr-defined]
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        code = ended.code
    # What Python does at its end, but for taking apart, module by module, what was imported.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


def _main() -> None:
    for module in _IMPORTED:
        importlib.import_module(module)
    # The SDK's descriptions of S3, a megabyte of JSON, are read once as well.
    botocore.session.create_loader = cache(create_loader)
    boto3.session.Session().client("s3", region_name="none")
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        order = _serve(connection)
    _become(order)


if __name__ == "__main__":
    _main()
