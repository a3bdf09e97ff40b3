"""The guide in `docs/deployment.md` where it touches data, and the example of `prometheus.yml`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.doc_examples import example_with
from tests.support.installation import REPOSITORY, Installation, bot_secrets, spaces
from tests.support.promtool import promtool
from tests.support.s3_server import S3Server

DEPLOYMENT = REPOSITORY / "docs" / "deployment.md"
METRICS = REPOSITORY / "docs" / "metrics.md"
OLD = "2025-07-04"


def shell(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the guide."""
    return subprocess.run(
        ["bash", "-euc", script, "bash", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def an_old_host(tmp_path: Path) -> Installation:
    """A host as the old scripts left it: live databases, and copies where the package goes."""
    host = Installation(tmp_path / "app", bot_secrets()).make_databases()
    (host.folder / "backups").mkdir()
    for live in (host.tokens_path, host.sessions_path):
        shutil.copy(live, host.folder / "backups" / f"{live.stem}_{OLD}.db")
    return host


def test_the_old_copies_make_room(tmp_path: Path) -> None:
    """The guide's commands move every copy below `BACKUP_DIR`, and nothing else."""
    host = an_old_host(tmp_path)
    script = example_with(DEPLOYMENT, "bash", "from-scripts").replace("/app", str(host.folder))

    done = shell(script)

    assert done.returncode == 0, done.stderr
    kept = host.folder / "data" / "backups" / "from-scripts"
    assert {path.name for path in kept.iterdir()} == {f"tokens_{OLD}.db", f"sessions_{OLD}.db"}
    assert not (host.folder / "backups").exists()
    assert kept.stat().st_mode & 0o077 == 0


def test_something_else_in_the_way_is_not_touched(tmp_path: Path) -> None:
    """What the scripts did not write stays where it is, and the commands say that it is there."""
    host = an_old_host(tmp_path)
    (host.folder / "backups" / "mine.txt").write_text("of value")
    script = example_with(DEPLOYMENT, "bash", "from-scripts").replace("/app", str(host.folder))

    done = shell(script)

    assert done.returncode != 0
    assert "not empty" in done.stderr
    assert (host.folder / "backups" / "mine.txt").read_text() == "of value"


def test_only_the_lines_of_the_scripts_leave_the_crontab() -> None:
    """The guide's filter takes the two lines of the scripts out, and leaves the others."""
    line = example_with(DEPLOYMENT, "bash", "crontab -u app_user")
    (kept_by,) = re.findall(r"\| (grep .*?) \|", line)
    old = (
        "MAILTO=me@example.org",
        "0 1 * * * /app/scripts/backup_tokens.sh >> /var/log/backup_tokens.log 2>&1",
        "0 1 * * * /app/scripts/backup_sessions.sh >> /var/log/backup_sessions.log 2>&1",
        "5 5 * * * /app/scripts/something_else.sh",
    )
    done = shell(f"printf '%s\\n' \"$@\" | {kept_by}", *old)
    assert done.stdout.splitlines() == [old[0], old[3]]


def test_the_move_has_worked(tmp_path: Path, s3_server: S3Server, bucket: str) -> None:
    """After the move the old objects are listed as legacy, the new set is proven, all is well."""
    host = an_old_host(tmp_path).with_settings(**spaces(s3_server.settings(bucket)))
    for name in ("tokens", "sessions"):
        old = host.folder / "backups" / f"{name}_{OLD}.db"
        s3_server.client().upload_file(str(old), bucket, f"backups/{name}_{OLD}.db")
    script = example_with(DEPLOYMENT, "bash", "from-scripts").replace("/app", str(host.folder))
    assert shell(script).returncode == 0

    assert host.json("run")["status"] == "succeeded"
    listed = [(found["kind"], found["proof"]) for found in host.json("list")["sets"]]
    assert listed == [("set", "full"), ("legacy", "none")]
    assert host.json("verify", f"legacy-{OLD}")["status"] == "succeeded"
    assert host.json("status")["healthy"]
    assert host.json("doctor")["healthy"]


def test_prometheus_accepts_the_example(tmp_path: Path) -> None:
    """The scrape configuration of `docs/metrics.md` is one that Prometheus can read."""
    shutil.copy(REPOSITORY / "deploy" / "prometheus" / "alerts.yaml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(example_with(METRICS, "yaml", "scrape_configs"))
    promtool(tmp_path, "check", "config", "--syntax-only", "prometheus.yml")
