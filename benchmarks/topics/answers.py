"""How the app answers while it is backed up: latency at 200 requests a second, and loop stalls."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

from app import create_app
from benchmarks.contenders.floor import BarePut, BusyProcessor
from benchmarks.contenders.ours import InApp, wait_for_new_second
from benchmarks.place import REPOSITORY, Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import say, settle
from benchmarks.samples import Sample, Window, percentile, within

TOPIC = "answers"
REQUESTS_A_SECOND = 200
IDLE, IN_THREAD, IN_CHILD = "idle", "run in a thread of the app", "run in a child process"
STALL = "longest loop stall"
APP_SECRET = "app-secret-of-the-benchmarks"
BODIES = 20_000  # each with new messages: an app drops those that it knows
_WEBHOOK = "/facebook/webhook"
# Without these the app's routes for Facebook answer 503.
_FACEBOOK = {
    "FACEBOOK_APP_ID": "1234567890",
    "FACEBOOK_APP_SECRET": APP_SECRET,
    "FACEBOOK_REDIRECT_URI": "https://bot.example/facebook/callback",
    "FACEBOOK_WEBHOOK_ADDRESS": "https://bot.example/facebook/webhook",
    "FACEBOOK_VERIFY_TOKEN": "verify-token-of-the-benchmarks",
    "FACEBOOK_GRAPH_URL": "http://127.0.0.1:9",  # whatever the app asks Meta stays on this host
}


class Asking:
    """A process that asks the app; see `benchmarks.asking`."""

    def __init__(self, port: int, target: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.asking", str(port), str(REQUESTS_A_SECOND)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(requests_to(target)) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "asking\n":
            raise RuntimeError("nobody asks")

    def stop(self) -> list[Sample]:
        """What each answer took."""
        told, _ = self._process.communicate("")
        if self._process.returncode:
            raise RuntimeError("a request was not answered well")
        return [Sample(sent, seconds) for sent, seconds in json.loads(told)]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def default_target() -> str:
    """The webhook that Meta calls, where the app has it."""
    return f"POST {_WEBHOOK}" if _WEBHOOK in create_app().openapi()["paths"] else "/healthz"


def requests_to(target: str) -> dict[str, object]:
    """What to ask: `/healthz`, or `POST /facebook/webhook` with messages, signed as Meta does."""
    method, _, path = target.rpartition(" ")
    head = [f"{method or 'GET'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if method != "POST":
        return {"head": head, "bodies": [("", [])]}
    head.append("Content-Type: application/json")
    return {"head": head, "bodies": [_signed(_message(number)) for number in range(BODIES)]}


def _message(number: int) -> str:
    message = {"mid": f"m_{number:032d}", "text": f"Is number {number} still to be had?"}
    now = int(time.time() * 1000)
    event = {"sender": {"id": "7001"}, "recipient": {"id": "9001"}, "timestamp": now}
    entry = {"id": "9001", "time": now, "messaging": [{**event, "message": message}]}
    return json.dumps({"object": "page", "entry": [entry]})


def _signed(body: str) -> tuple[str, list[str]]:
    digest = hmac.new(APP_SECRET.encode(), body.encode(), hashlib.sha256).hexdigest()
    return body, [f"X-Hub-Signature-256: sha256={digest}", f"Content-Length: {len(body)}"]


def measure(plan: Plan, place: Place, results: Results) -> None:
    """In turns: some time without a backup, one in a thread, one in a child, what is no backup.

    First beside a store that takes what it needs, as on one host with it, then out of its way.
    """
    target = plan.target or default_target()
    results.notes.append(f"answers: {target} at {REQUESTS_A_SECOND} requests a second")
    _measure(plan, place, target, results)
    with place.yielding() as out_of_the_way:
        _measure(plan, out_of_the_way, target, results)


def _measure(plan: Plan, place: Place, target: str, results: Results) -> None:
    pair = place.copy_of(place.pair(plan.busy_size))
    with (
        closing(InApp(place, pair, "zstd", more=_FACEBOOK)) as one,
        closing(BarePut(place, pair)) as bare,
    ):
        command, busy = one.installed.command("run"), BusyProcessor(place, pair)
        ways: dict[str, Callable[[], object]] = {
            IDLE: lambda: time.sleep(plan.idle_seconds),
            IN_THREAD: one.backup,
            IN_CHILD: command.run,
            bare.name: bare.backup,
            busy.name: busy.backup,
        }
        windows: dict[str, list[Window]] = {way: [] for way in ways}
        stalls: dict[str, list[float]] = {way: [] for way in ways}
        with closing(Asking(one.app.port, target)) as asking:
            time.sleep(1)
            one.app.ask("watch")
            for _ in range(plan.busy_runs):
                for way, act in ways.items():
                    settle(plan)
                    wait_for_new_second()
                    one.app.ask("beats")
                    began = time.monotonic()
                    act()
                    windows[way].append((began, time.monotonic()))
                    stalls[way].append(one.app.ask("beats")["longest"] * 1000)
            answers = asking.stop()
    shutil.rmtree(pair.folder)
    for way, of in windows.items():
        found, who = within(answers, of), place.named(way)
        say(f"  {who}: {len(found)} answers in {sum(end - start for start, end in of):.1f} s")
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            values = [percentile(within(answers, [window]), part) for window in of]
            results.add(TOPIC, plan.busy_size, who, f"answer {name}", "ms", values)
        results.add(TOPIC, plan.busy_size, who, "answer p99.9", "ms", [percentile(found, 0.999)])
        results.add(TOPIC, plan.busy_size, who, STALL, "ms", stalls[way])
