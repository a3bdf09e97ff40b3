"""The locked dependencies: install a lock, renew all locks, check that none is stale.

A lock (`requirements.txt` and its like) is compiled from its `.in` file: every package that is
needed, directly or not, at one version, with the SHA-256 of its files. It holds for CPython 3.11
to 3.14 on Linux (glibc 2.28 or newer) on x86-64 and arm64, and on macOS on arm64.

This runs in an environment that is still empty, so it uses the standard library only.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV_LOCK = "deploy/uv.txt"
# Each lock, and the one whose versions it shares. The programs that the benchmarks run beside
# ours have an environment of their own.
LOCKS: Mapping[str, str | None] = {
    UV_LOCK: None,
    "requirements.txt": None,
    "requirements-postgres.txt": "requirements.txt",
    "requirements-dev.txt": "requirements-postgres.txt",
    "requirements-browser.txt": "requirements-dev.txt",
    "benchmarks/peers.txt": None,
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
UV_SECONDS = 10.0  # on a connection that takes longer for uv, pip alone is not slower
# uv reads neither pip.conf nor PIP_*: https://docs.astral.sh/uv/pip/compatibility/. What it reads
# instead, and how it splits lists: https://docs.astral.sh/uv/reference/environment/.
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "cert": ("SSL_CERT_FILE", " "),
}
# To lock, the others are left out: they may have some of a version's files, a lock needs all.
LOCK_SETTINGS = ("index-url", "cert")
# The sections of pip's configuration that `pip install` reads; the later ones win.
PIP_SECTIONS = ("global", "install", ":env:")


class DependencyError(Exception):
    """What could not be installed or locked; uv or pip has printed why."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 done, 1 failed, 2 usage."""
    parser = argparse.ArgumentParser(prog="deploy/dependencies.py")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    installing = commands.add_parser("install", help="install a lock into this environment")
    installing.add_argument("lock", type=Path)
    installing.add_argument("--uv-seconds", type=float, default=UV_SECONDS, metavar="N")
    commands.add_parser("lock", help="renew every lock; takes options of `uv pip compile`")
    commands.add_parser("check", help="exit with 1 if a lock is stale")
    options, others = parser.parse_known_args(arguments)
    if others and options.command != "lock":
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        if options.command == "install":
            install(options.lock, uv_seconds=options.uv_seconds)
        elif options.command == "lock":
            renew(others)
        else:
            check()
    except DependencyError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def install(lock: Path, *, uv_seconds: float = UV_SECONDS) -> None:
    """Install a lock into this environment with uv, or with pip if uv cannot be had or fails.

    Raises:
        DependencyError: pip failed too, for example because a file has another hash.
    """
    if not _install_uv(uv_seconds):
        print("uv could not be installed. Using pip, which takes longer.", file=sys.stderr)
    elif _run_uv(
        UV_VARIABLES,
        # As pip does: the service's user may write no bytecode where root has installed.
        *("install", "--python", sys.executable, "--compile-bytecode"),
        *_hashed(lock),
    ):
        return
    else:
        print("uv could not install the packages. Trying pip.", file=sys.stderr)
    if not _pip_install(lock, seconds=None):
        raise DependencyError(
            f"The packages of {lock} could not be installed; pip's reason is above.\n"
            "If no index answered, look at PIP_INDEX_URL and pip.conf. Then run make again."
        )


def renew(options: Sequence[str]) -> None:
    """Compile every lock. uv keeps the versions that are locked, unless its options say otherwise.

    Raises:
        DependencyError: uv cannot be installed, finds no versions that fit together, or a package
            has no wheel for one of `PLATFORMS` with one of `PYTHONS`.
    """
    os.chdir(ROOT)  # uv names the .in files in the locks as they are given
    if not _install_uv(seconds=None):
        raise DependencyError("uv could not be installed.")
    for lock, shared in LOCKS.items():
        source = _source(lock)
        print(f"{source} -> {lock}")
        compiled = _run_uv(
            LOCK_SETTINGS,
            *("compile", source, "--output-file", lock, "--no-header", "--no-emit-index-url"),
            *("--universal", "--python-version", PYTHONS[0], "--generate-hashes"),
            *("--only-binary", ":all:", "--emit-build-options"),
            *(("--constraints", shared) if shared else ()),
            *options,
        )
        if not compiled:
            raise DependencyError(f"{source} could not be locked.")
        _check_wheels(lock)
        # Last: without its header a lock is stale, so that a failure above is not forgotten.
        Path(lock).write_text(_header(lock) + Path(lock).read_text())


def check() -> None:
    """Compare the digests in the locks with the `.in` files, without a network.

    Raises:
        DependencyError: a lock is missing, or an `.in` file has changed since it was compiled.
    """
    stale = [lock for lock in LOCKS if not _is_fresh(ROOT / lock, _header(lock))]
    if stale:
        raise DependencyError(
            f"Not compiled from the present .in files: {', '.join(stale)}.\nRun: make lock"
        )


def _is_fresh(lock: Path, header: str) -> bool:
    return lock.is_file() and lock.read_text().startswith(header)


def _header(lock: str) -> str:
    lines = ["# Written by `make lock`. To change a version, change the .in file."]
    for source in _included(_source(lock)):
        digest = hashlib.sha256((ROOT / source).read_bytes()).hexdigest()
        lines.append(f"# SHA-256 of {source}: {digest}")
    return "\n".join(lines) + "\n"


def _source(lock: str) -> str:
    return lock.removesuffix("txt") + "in"


def _included(source: str) -> Iterator[str]:
    """An `.in` file, after those that it includes."""
    for included in re.findall(r"^-r (\S+)$", (ROOT / source).read_text(), re.MULTILINE):
        yield from _included(included)
    yield source


def _check_wheels(lock: str) -> None:
    for platform in PLATFORMS:
        for python in PYTHONS:
            place = ("--python-platform", platform, "--python-version", python)
            with tempfile.TemporaryDirectory() as empty:
                dry = ("install", "--dry-run", "--target", empty, *_hashed(lock))
                if not _run_uv(LOCK_SETTINGS, *dry, *place):
                    raise DependencyError(f"{lock} does not fit {platform}, CPython {python}.")


def _install_uv(seconds: float | None) -> bool:
    return _pip_install(ROOT / UV_LOCK, seconds)


def _run_uv(names: Collection[str], *arguments: str) -> bool:
    """Run a command of `uv pip` to its end, with those of pip's settings that have such a name."""
    settings = {name: value for name, value in pip_settings().items() if name in names}
    command = [str(Path(sys.executable).parent / "uv"), "pip", *arguments, "--quiet"]
    if pip_settings().get("no-index", "").lower() in ("1", "true", "yes", "on"):
        command.append("--no-index")
    # By variables, not options: an index may have a password, and all users see the options.
    environment = {**uv_variables(settings), **os.environ}
    try:
        return subprocess.run(command, env=environment, check=False).returncode == 0
    except OSError as error:  # as when the program was made for another platform
        print(f"uv could not be started: {error}", file=sys.stderr)
        return False


def uv_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """What makes uv use the indexes that pip uses, from pip's settings."""
    given = {
        variable: separator.join(settings[name].split())
        for name, (variable, separator) in UV_VARIABLES.items()
        if settings.get(name)
    }
    # As pip does: any index may have the file. The hashes say whether it is the right one.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **given}


@cache
def pip_settings() -> Mapping[str, str]:
    """The options of `pip install` from its files and variables, such as `index-url`."""
    listed = subprocess.run(
        [*_pip(), "config", "list"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    sections: dict[str, dict[str, str]] = {section: {} for section in PIP_SECTIONS}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in sections:
            sections[section][name] = str(ast.literal_eval(value))
    return {name: value for found in sections.values() for name, value in found.items()}


def _pip_install(lock: Path, seconds: float | None) -> bool:
    options = ("--quiet", "--disable-pip-version-check", *_hashed(lock))
    with tempfile.TemporaryDirectory() as temporary:  # a pip that is stopped may leave files
        process = subprocess.Popen(
            [*_pip(), "install", *options], env={**os.environ, "TMPDIR": temporary}
        )
        with suppress(subprocess.TimeoutExpired):
            return process.wait(seconds) == 0
        print(f"pip is stopped: it has not ended within {seconds:g} s.", file=sys.stderr)
        process.send_signal(signal.SIGINT)  # at which it leaves no package half installed
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return False


def _hashed(lock: Path | str) -> tuple[str, ...]:
    return ("--require-hashes", "-r", str(lock))


@cache
def _pip() -> Sequence[str]:
    """A pip that installs into this environment: its own, or that of the Python it is made from.

    The second spares the 3 s that an environment takes to get a pip of its own. It is started as
    `pip --python` starts it, but as one process, which gets the signals itself.
    """
    own = (sys.executable, "-m", "pip")
    if find_spec("pip"):
        return own
    base = str(sys._base_executable)  # type: ignore[attr-defined]
    find = "import pathlib, pip; print(pathlib.Path(pip.__file__).with_name('__pip-runner__.py'))"
    found = subprocess.run([base, "-c", find], capture_output=True, text=True, check=False)
    if Path(runner := found.stdout.strip()).is_file():  # pip 22.2 and newer have one
        return (sys.executable, runner)
    subprocess.run([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL, check=False)
    return own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
