"""The locked dependencies: what the locks hold, when they are stale, how they are installed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.installation import REPOSITORY
from tests.support.package_index import PackageIndex, wheel

SCRIPT = "deploy/dependencies.py"
OURS = (
    "requirements.txt",
    "requirements-postgres.txt",
    "requirements-dev.txt",
    "requirements-browser.txt",
)
LOCKS = (*OURS, "benchmarks/peers.txt", "deploy/uv.txt")


def locked(name: str) -> dict[str, str]:
    """Each package of a lock, with its version, its markers and its hashes."""
    text = re.sub(r"^ *#.*\n", "", (REPOSITORY / name).read_text(), flags=re.MULTILINE)
    return {
        package: " ".join(rest.replace("\\\n", " ").split())
        for package, rest in re.findall(r"^([a-z0-9-]+)(==(?:.*\\\n)*.*)$", text, re.MULTILINE)
    }


def chosen(source: Path) -> dict[str, str]:
    """Each package of an `.in` file, with its `==VERSION` if it has one; what it includes too."""
    packages: dict[str, str] = {}
    for line in source.read_text().splitlines():
        if line.startswith("-r "):
            packages |= chosen(source.parent / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            packages |= [(m[1], m[2]) for m in [re.match("([a-z0-9-]+)(.*)", line)] if m]
    return packages


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_each_package_at_one_version_with_hashes(name: str) -> None:
    """A lock pins every line with hashes, allows wheels only, and has what its `.in` chooses."""
    packages = locked(name)
    text = (REPOSITORY / name).read_text()
    first, *lines = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert first == "--only-binary :all:"
    assert len(lines) == len(packages)
    for rest in packages.values():
        assert re.fullmatch(r"==\S+( ; [^\\]+?)?( --hash=sha256:[0-9a-f]{64})+", rest)
    for package, version in chosen((REPOSITORY / name).with_suffix(".in")).items():
        assert f"{packages[package]} ".startswith(f"{version} " if version else "==")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_place(name: str) -> None:
    """No index, host or path of the machine that made a lock is in it."""
    text = (REPOSITORY / name).read_text()
    assert re.findall(r"://|index|find-links|localhost|(?<![\w.-])[/~]\w.*", text) == []


def test_locks_agree() -> None:
    """What is in several locks of one environment has the same version and hashes in all."""
    runtime, postgres, dev, browser = (locked(name) for name in OURS)
    assert runtime.items() <= postgres.items() <= dev.items() <= browser.items()
    assert "psycopg" not in runtime
    assert "pytest" not in runtime
    assert "playwright" not in dev


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The locks, their `.in` files and the script, in a folder of their own."""
    for name in (SCRIPT, "Makefile", *LOCKS, *(lock[:-3] + "in" for lock in LOCKS)):
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tmp_path / "copy" / name)
    return tmp_path / "copy"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Compare the locks of a folder with its `.in` files, where nothing can be reached."""
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "--", sys.executable, SCRIPT, "check"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_changed_choice_makes_its_locks_stale(copy: Path) -> None:
    """After a change the check names each lock that the change concerns, and the remedy."""
    assert (check(copy).returncode, check(copy).stderr) == (0, "")
    with (copy / "requirements.in").open("a") as stream:
        stream.write("one-more==1.0\n")
    (copy / "benchmarks/peers.txt").unlink()
    done = check(copy)
    assert done.returncode == 1
    assert all(name in done.stderr for name in (*OURS, "benchmarks/peers.txt"))
    assert "deploy/uv.txt" not in done.stderr
    assert done.stderr.endswith("Run: make lock\n")


def test_make_check_looks_at_the_locks(copy: Path) -> None:
    """`make check` fails on a stale lock."""
    (copy / ".venv/bin").mkdir(parents=True)
    (copy / ".venv/bin/python").symlink_to(sys.executable)
    (copy / ".venv/.dev").touch()
    (copy / "requirements.in").write_text("")
    command = ["make", "check", "--assume-old=requirements-dev.txt"]
    done = subprocess.run(
        command, cwd=copy, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "Run: make lock" in done.stderr


@dataclass(frozen=True)
class Environment:
    """A new virtual environment, and a lock of the one package of `PackageIndex`."""

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "venv" / "bin" / "python")

    def install(
        self, lock: Path, *options: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Install a lock with nothing of pip's and uv's settings but these variables."""
        return self.run(REPOSITORY / SCRIPT, "install", str(lock), *options, **variables)

    def run(
        self, script: Path, *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the script with no settings of pip and uv but these variables."""
        passed = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        caches = {
            "PIP_CACHE_DIR": str(self.folder / "pip"),
            "UV_CACHE_DIR": str(self.folder / "uv"),
        }
        caches["REAL_CLOCK"] = "1"  # of the package index
        no_files = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
        self.temporary.mkdir(exist_ok=True)
        temporary = {"TMPDIR": str(self.temporary)}
        return subprocess.run(
            [self.python, script, *arguments],
            env={**passed, **caches, **no_files, **temporary, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @property
    def temporary(self) -> Path:
        """Where the script, pip and uv put their temporary files."""
        return self.folder / "tmp"

    def lock(self, content: bytes) -> Path:
        """A lock that allows a file of this content only."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.folder / "lock.txt"
        path.write_text(f"--only-binary :all:\nsmallest==1.0 \\\n    --hash=sha256:{digest}\n")
        return path

    def has_package(self) -> bool:
        """Whether the package can be imported."""
        return subprocess.run([self.python, "-c", "import smallest"], check=False).returncode == 0


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment without uv."""
    make = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")]
    subprocess.run(make, check=True, timeout=60)
    return Environment(tmp_path)


@pytest.fixture
def environment_with_uv(_venv_with_uv: Path, tmp_path: Path) -> Environment:
    """An environment with the pinned uv: its files are links, and what a test adds is its own."""
    shutil.copytree(_venv_with_uv, tmp_path / "venv", symlinks=True, copy_function=os.link)
    return Environment(tmp_path)


@pytest.fixture(scope="module")
def _venv_with_uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: the pinned uv is fetched as this machine fetches packages."""
    made = Environment(tmp_path_factory.mktemp("uv"))
    make = [sys.executable, "-m", "venv", "--without-pip", str(made.folder / "venv")]
    subprocess.run(make, check=True, timeout=60)
    command = [made.python, SCRIPT, "install", "deploy/uv.txt", "--uv-seconds", "120"]
    subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "REAL_CLOCK": "1"},  # of the package index
        check=True,
        timeout=240,
        capture_output=True,
    )
    return made.folder / "venv"


def pip_says(index: str, how: str, folder: Path) -> Mapping[str, str]:
    """Variables that name an index to pip, itself or through pip's file."""
    if how == "variable":
        return {"PIP_INDEX_URL": index}
    if how == "extra":
        return {"PIP_INDEX_URL": f"{index}/none", "PIP_EXTRA_INDEX_URL": f" {index}\n {index}"}
    if how == "links":
        (folder / "links").mkdir()
        (folder / "links" / "smallest-1.0-py3-none-any.whl").write_bytes(wheel())
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{folder}/links {folder}/links"}
    (folder / "pip.conf").write_text(f"[global]\nindex-url = {index}\n")
    return {"PIP_CONFIG_FILE": str(folder / "pip.conf")}


@pytest.mark.parametrize("how", ["variable", "file", "extra", "links"])
def test_uv_uses_the_index_of_pip(environment_with_uv: Environment, how: str) -> None:
    """uv uses the indexes and folders of wheels that pip has, from its variables or its file."""
    there = environment_with_uv
    with PackageIndex() as index:
        done = there.install(there.lock(wheel()), **pip_says(index.url, how, there.folder))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert index.programs == (set() if how == "links" else {"uv"})
    (record,) = there.folder.glob("venv/lib/*/site-packages/smallest-1.0.dist-info/INSTALLER")
    assert record.read_text() == "uv"
    assert list(there.folder.glob("venv/lib/*/site-packages/__pycache__/smallest.*.pyc"))
    assert there.has_package()


def test_a_file_with_another_hash_is_refused(environment_with_uv: Environment) -> None:
    """Neither uv nor pip installs a file whose hash is not in the lock."""
    there = environment_with_uv
    with PackageIndex() as index:
        done = there.install(there.lock(b"another"), PIP_INDEX_URL=index.url)
    assert done.returncode == 1
    assert index.programs == {"uv", "pip"}
    assert f"The packages of {there.folder / 'lock.txt'} could not be installed" in done.stderr
    assert not there.has_package()


def test_a_lock_without_a_hash_is_refused(environment_with_uv: Environment) -> None:
    """Neither uv nor pip installs a package whose line in the lock has no hash."""
    there = environment_with_uv
    lock = there.folder / "lock.txt"
    lock.write_text("--only-binary :all:\nsmallest==1.0\n")
    with PackageIndex() as index:
        done = there.install(lock, PIP_INDEX_URL=index.url)
    assert done.returncode == 1
    assert "uv could not install the packages. Trying pip." in done.stderr
    assert not there.has_package()


@pytest.mark.parametrize("silent", [False, True], ids=["missing", "silent"])
def test_pip_installs_what_uv_cannot(environment: Environment, silent: bool) -> None:
    """Where uv is missing, or does not come in time, pip installs the lock, and that is said.

    The pip that was stopped leaves no files.
    """
    seconds = ("--uv-seconds", "1") if silent else ()
    with PackageIndex(silent_on_uv=silent) as index:
        done = environment.install(environment.lock(wheel()), *seconds, PIP_INDEX_URL=index.url)
    assert done.returncode == 0, done.stderr
    assert index.programs == {"pip"}
    assert "uv could not be installed. Using pip, which takes longer." in done.stderr
    assert environment.has_package()
    assert ("pip is stopped: it has not ended within 1 s." in done.stderr) == silent
    assert list(environment.temporary.iterdir()) == []


def test_no_password_of_an_index_is_printed(environment_with_uv: Environment) -> None:
    """Where the index cannot be reached, uv and pip say so, and not its password."""
    there, index = environment_with_uv, "http://somebody:sesame@127.0.0.1:9/simple"
    no_retries = {"PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}
    done = there.install(there.lock(wheel()), PIP_INDEX_URL=index, **no_retries)
    assert done.returncode == 1
    assert "uv could not install the packages. Trying pip." in done.stderr
    assert "look at PIP_INDEX_URL and pip.conf" in done.stderr
    assert "127.0.0.1" in done.stderr
    assert "sesame" not in done.stdout + done.stderr


def choose_the_smallest(copy: Path) -> None:
    """Let every `.in` file choose the one package of `PackageIndex`."""
    for name in LOCKS:
        (copy / name).with_suffix(".in").write_text("smallest==1.0\n")


def test_locks_are_renewed(environment_with_uv: Environment, copy: Path) -> None:
    """`lock` compiles each lock from its `.in` file, with hashes and no address of the index."""
    choose_the_smallest(copy)
    with PackageIndex() as index:
        done = environment_with_uv.run(copy / SCRIPT, "lock", PIP_INDEX_URL=index.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert (check(copy).returncode, check(copy).stderr) == (0, "")
    digest = hashlib.sha256(wheel()).hexdigest()
    for name in LOCKS:
        text = (copy / name).read_text()
        assert f"smallest==1.0 \\\n    --hash=sha256:{digest}\n" in text
        assert "127.0.0.1" not in text


@pytest.mark.parametrize(
    "tag", ["cp311-cp311-manylinux_2_28_x86_64", "py3-none-manylinux_2_28_x86_64"]
)
def test_a_package_without_a_wheel_for_a_platform_is_refused(
    environment_with_uv: Environment, copy: Path, tag: str
) -> None:
    """`lock` fails, and leaves the lock stale, if a wheel is missing for a platform or a Python."""
    choose_the_smallest(copy)
    with PackageIndex(tag=tag) as index:
        done = environment_with_uv.run(copy / SCRIPT, "lock", PIP_INDEX_URL=index.url)
    assert done.returncode == 1
    missing = "x86_64-manylinux_2_28, CPython 3.12" if "cp311" in tag else "aarch64-manylinux_2_28"
    assert f"deploy/uv.txt does not fit {missing}" in done.stderr
    assert "deploy/uv.txt" in check(copy).stderr
