"""The budgets: what was promised, as ratios and limits, and what was measured of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders.contender import TO_LAST_PUT, WHOLE, WITH_PROOF
from benchmarks.contenders.daemons import FollowingApp, LitestreamDaemon
from benchmarks.contenders.floor import BarePut, BusyProcessor
from benchmarks.place import STORE_YIELDS
from benchmarks.results import Measure, Results
from benchmarks.topics import (
    answers,
    backup,
    bot,
    bot_traffic,
    change,
    cost,
    following,
    points,
    polling,
    presence,
    restore,
    seconds,
    writers,
)

SCRIPTS = "two shell scripts"
PEERS = (SCRIPTS, "two shell scripts at once", ".backup + rclone", ".backup + restic", "Litestream")
APP, COMMAND = "ours in the app, ", "ours as a command, "
FOLLOWS, FOLLOWS_NOT = FollowingApp.ON, FollowingApp.OFF
LITESTREAM = LitestreamDaemon.name


@dataclass(frozen=True)
class Budget:
    """Something promised: the `measured` number is to be at most `limit`; None: only told."""

    name: str
    limit: float | None
    measured: float
    unit: str = ""

    @property
    def kept(self) -> bool:
        """Whether it is."""
        return self.limit is None or self.measured <= self.limit

    def document(self) -> dict[str, Any]:
        """For `results.json`."""
        return {**vars(self), "kept": self.kept}


def budgets(results: Results) -> list[Budget]:
    """Those of which all was measured."""
    return [
        Budget(name, limit, measured, unit)
        for name, limit, unit, measured in (
            *_times(results),
            *_restores(results),
            *_spent(results),
            *_others(results, ""),
            *_others(results, STORE_YIELDS),
            *_following(results),
            *_to_a_second(results),
            *_being_there(results),
            *_bot(results),
        )
        if measured is not None
    ]


_Found = tuple[str, float | None, str, float | None]


def _times(results: Results) -> Iterable[_Found]:
    def of_scripts(megabytes: float, who: str, what: str) -> float | None:
        return _ratio(
            results.find(backup.TOPIC, megabytes, who, what),
            results.find(backup.TOPIC, megabytes, SCRIPTS, WHOLE),
        )

    for megabytes, size, limits in (
        (100, "100 MB", (("plain", 0.55), ("zstd", 0.60), ("zstd+age", 0.70))),
        (1000, "1 GB", (("plain", 1.00), ("zstd", 1.10))),
    ):
        for sealing, limit in limits:
            name = f"{size}, {APP}{sealing}, {WITH_PROOF}: of the scripts' time"
            yield name, limit, "", of_scripts(megabytes, f"{APP}{sealing}", WITH_PROOF)
    for who, limit in ((f"{APP}plain", 0.75), (f"{APP}zstd", 0.50), (f"{COMMAND}zstd", 0.65)):
        name = f"100 MB, {who}, {TO_LAST_PUT}: of the scripts' time"
        yield name, limit, "", of_scripts(100, who, TO_LAST_PUT)
    fastest = _fastest(results, 100)
    for sealing in ("plain", "zstd"):
        ours = results.find(backup.TOPIC, 100, f"{APP}{sealing}", TO_LAST_PUT)
        name = f"100 MB, {APP}{sealing}: of the fastest peer's ({fastest.who if fastest else ''})"
        yield name, 1.0, "", _ratio(ours, fastest)
    for sealing in ("plain", "zstd"):
        name = f"1 MB each, {APP}{sealing}, {TO_LAST_PUT}: of the scripts' time"
        yield name, 0.10, "", of_scripts(1, f"{APP}{sealing}", TO_LAST_PUT)
    for sealing in ("plain", "zstd"):
        ours = results.find(backup.TOPIC, 1000, f"{APP}{sealing}", TO_LAST_PUT)
        floor = _floor(results, 1000, sealing)
        name = f"1 GB, {APP}{sealing}: of the larger floor ({floor.who if floor else ''})"
        yield name, 1.35, "", _ratio(ours, floor)
    for who in (f"{APP}plain", f"{APP}zstd", "Litestream", ".backup + restic"):
        again = _first(results, change.TOPIC, who, (TO_LAST_PUT, WHOLE))
        scripts = _first(results, change.TOPIC, SCRIPTS, (WHOLE,))
        name = f"after 1% of the rows changed, {who}: of the scripts' time"
        yield name, None, "", _ratio(again, scripts)


def _restores(results: Results) -> Iterable[_Found]:
    """Of the scripts' download, which checks nothing."""
    for megabytes, who, what, limit in (
        (100, f"{COMMAND}plain", WHOLE, 0.50),
        (100, f"{COMMAND}zstd", WHOLE, 0.60),
        (100, f"{APP}zstd", restore.IN_PLACE, 0.50),
        (100, f"{APP}zstd{restore.FROM_COPY}", restore.IN_PLACE, 0.30),
        (1000, f"{COMMAND}plain", WHOLE, 0.75),
    ):
        ours = results.find(restore.TOPIC, megabytes, who, what)
        scripts = results.find(restore.TOPIC, megabytes, SCRIPTS, WHOLE)
        name = f"restore {megabytes} MB, {who}, {what}: of the scripts' time"
        yield name, limit, "", _ratio(ours, scripts)
    next_commit = _first(results, restore.TOPIC, f"{APP}zstd", (restore.NEXT_COMMIT,))
    name = f"restore, {restore.NEXT_COMMIT}"
    yield name, 10.0, "ms", next_commit.most if next_commit else None


def _spent(results: Results) -> Iterable[_Found]:
    for megabytes in results.sizes(cost.BACKUP):

        def found(topic: str, who: str, what: str, size: float = megabytes) -> float | None:
            measured = results.find(topic, size, who, what)
            return measured.median if measured else None

        for sealing in ("plain", "zstd"):
            name = f"{megabytes:g} MB, {APP}{sealing}: memory above idle"
            yield name, 48.0, "MiB", found(cost.BACKUP, f"{APP}{sealing}", cost.MEMORY)
        if megabytes != 100:
            continue
        for sealing, most in (("plain", 1.8), ("zstd", 2.5)):
            name = f"100 MB, {COMMAND}{sealing}: processor time of a run"
            yield name, most, "s", found(cost.BACKUP, f"{COMMAND}{sealing}", cost.PROCESSOR)
        status = found(cost.STATUS, f"{COMMAND}plain", cost.PROCESSOR)
        yield "100 MB: processor time of a status", 0.27, "s", status
        asked = found(cost.BACKUP, f"{APP}plain", cost.REQUESTS)
        yield "requests to the store of a run that is not the first of its day", 6, "", asked


def _others(results: Results, way: str) -> Iterable[_Found]:
    """What others feel of a backup; what they feel of what is no backup is told beside it."""

    def commits(who: str) -> float | None:
        idle = _first(results, writers.TOPIC, who, (f"{writers.P99} {writers.IDLE}",))
        busy = _first(results, writers.TOPIC, who, (f"{writers.P99} {writers.BUSY}",))
        return _ratio(busy, idle)

    def asked(who: str) -> float | None:
        idle = _first(results, answers.TOPIC, f"{answers.IDLE}{way}", ("answer p99",))
        return _ratio(_first(results, answers.TOPIC, who, ("answer p99",)), idle)

    controls = [f"{one.name}{way}" for one in (BarePut, BusyProcessor)]
    for who in (f"{APP}plain{way}", f"{APP}zstd{way}"):
        yield f"writers beside {who}: p99 of a commit, of idle", 1.2, "", commits(who)
        wait = _first(results, writers.TOPIC, who, (f"{writers.LOCK} {writers.BUSY}",))
        name = f"writers beside {who}: longest wait for the lock"
        yield name, 10.0, "ms", wait.most if wait else None
    for who in controls:
        yield f"writers beside {who}: p99 of a commit, of idle", None, "", commits(who)
    for who in (f"{answers.IN_THREAD}{way}", f"{answers.IN_CHILD}{way}"):
        yield f"answers, {who}: p99, of idle", 1.2, "", asked(who)
        bare = asked(f"{BarePut.name}{way}")
        of_bare = ours / bare if (ours := asked(who)) and bare else None
        yield f"answers, {who}: p99, of that beside a bare PUT", 0.8, "", of_bare
        stall = _first(results, answers.TOPIC, who, (answers.STALL,))
        name = f"answers, {who}: longest stall of the loop"
        yield name, 20.0, "ms", stall.most if stall else None
    for who in controls:
        yield f"answers, {who}: p99, of idle", None, "", asked(who)


def _following(results: Results) -> Iterable[_Found]:
    """What a burning host would lose, and what that costs; beside Litestream as a daemon."""
    for megabytes in results.sizes(following.TOPIC):

        def found(what: str, who: str = FOLLOWS, size: float = megabytes) -> Measure | None:
            return results.find(following.TOPIC, size, who, what)

        for what, median, worst in (
            (following.LOSS, 1.2, 2.5),
            (following.OWN_LOSS, 1.2, 2.5),
            (following.LOSS_FAR, 1.4, 3.0),
        ):
            windows = found(what)
            name = f"{megabytes:g} MB, {what}"
            yield f"{name}, median", median, "s", windows.median if windows else None
            yield f"{name}, worst", worst, "s", windows.most if windows else None
        peer = found(following.LOSS, LITESTREAM)
        name = f"{megabytes:g} MB, {following.LOSS} of {LITESTREAM}"
        yield f"{name}, median", None, "s", peer.median if peer else None
        yield f"{name}, worst", None, "s", peer.most if peer else None
        for what, limit, unit in (
            (f"{following.STORED} {following.TOKEN}", 1.2, "KB"),
            (following.BUSY, 8.0, "%"),
            (f"{following.SENT} {following.PART}", 0.6 if megabytes == 100 else None, "MB"),
        ):
            cost = found(what)
            yield f"{megabytes:g} MB, {what}", limit, unit, cost.median if cost else None
        off = found(following.P99, FOLLOWS_NOT)
        name = f"{megabytes:g} MB, {following.P99} of a writer, of that without following"
        yield name, 1.3, "", _ratio(found(following.P99), off)
        idle, idle_off = found(following.IDLE), found(following.IDLE, FOLLOWS_NOT)
        more = idle.median - idle_off.median if idle and idle_off else None
        yield f"{megabytes:g} MB, {following.IDLE}, for following", 0.2, "%", more
        put = found(following.IDLE_PUTS)
        yield f"{megabytes:g} MB, {following.IDLE_PUTS}", 0.0, "", put.most if put else None


def _to_a_second(results: Results) -> Iterable[_Found]:
    for megabytes in results.sizes(seconds.TOPIC):
        for who in (seconds.SINGLE, seconds.PACKED):
            each = results.find(seconds.TOPIC, megabytes, who, seconds.EACH)
            name = f"restore {megabytes:g} MB to one second, {who}: {seconds.EACH}"
            yield name, 0.8 if who == seconds.PACKED else None, "ms", each.median if each else None


def _being_there(results: Results) -> Iterable[_Found]:
    limits = {points.STATUS: 100, points.LIST: 100, points.RETENTION: 100, points.FRESH_LIST: None}
    for what, limit in limits.items():
        found = next((m for m in results.of(points.TOPIC) if m.what == what), None)
        name = f"{found.who if found else ''}: {what}"
        yield name, limit, "ms", found.median if found else None
    asked = next(
        (m for m in results.of(points.TOPIC) if m.what == points.REQUESTS_OF + points.STATUS), None
    )
    yield "requests to the store of a status", 0.0, "", asked.most if asked else None
    both, app = (
        _first(results, presence.TOPIC, who, ("time",))
        for who in ("import of the app and boto3", "import of the app")
    )
    # What it costs to import boto3 after the app: nothing, if the app has paid for it once.
    yield "import of the app with boto3, of the app alone", None, "", _ratio(both, app)


def _bot(results: Results) -> Iterable[_Found]:
    """What was promised of the bot: at the whole sizes, which a quick run does not have."""
    for who, what, limit in (
        (f"{bot.ROWS:,} finished rows", bot.LOOK, 1.0),
        (f"{bot.PRODUCTS:,} products", f"{bot.CHANGE}: processor time", 15.0),
        (f"{bot.SHOPS:,} shops", bot.FRONT, 20.0),
    ):
        found = results.find(bot.TOPIC, 0, who, what)
        yield f"the bot, {who}: {what}", limit, "ms", found.median if found else None
    held = f"{bot_traffic.HELD} unsigned bodies held open"
    for who, what, limit, unit in (
        (bot_traffic.HUNG, bot_traffic.STORED_P99, 2.0, "s"),
        (held, bot_traffic.HELD_MEMORY, 64.0, "MiB"),
        (held, bot_traffic.HELD_SECONDS, 35.0, "s"),
    ):
        found = results.find(bot.TOPIC, 0, who, what)
        yield f"the bot, {who}: {what}", limit, unit, found.median if found else None
    for pages in (1, bot_traffic.MANY_PAGES):
        who = bot_traffic.on_pages(pages)
        found = results.find(bot.TOPIC, 0, who, bot_traffic.INBOX)
        each = 1000 / found.median if found else None
        yield f"the bot, {who}: for an update (60 a second)", 1000 / 60, "ms", each
    who = polling.name_of(polling.SHOPS, polling.PRODUCTS)
    for what, limit, unit in ((polling.ALL, 10.0, "h"), (polling.MEMORY, 200.0, "MB")):
        found = results.find(polling.TOPIC, 0, who, what)
        yield f"polling, {who}: {what}", limit, unit, found.median if found else None


def _ratio(one: Measure | None, other: Measure | None) -> float | None:
    return one.median / other.median if one and other else None


def _first(results: Results, topic: str, who: str, whats: Iterable[str]) -> Measure | None:
    found = (m for what in whats for m in results.of(topic) if (m.who, m.what) == (who, what))
    return next(found, None)


def _least(found: Iterable[Measure | None], choose: Callable[..., Measure]) -> Measure | None:
    there = [m for m in found if m]
    return choose(there, key=lambda m: m.median) if there else None


def _fastest(results: Results, megabytes: float) -> Measure | None:
    return _least((results.find(backup.TOPIC, megabytes, who, WHOLE) for who in PEERS), min)


def _floor(results: Results, megabytes: float, sealing: str) -> Measure | None:
    names = ("floor: one read + one write", f"floor: one raw PUT, {sealing}")
    return _least((results.find(backup.TOPIC, megabytes, who, WHOLE) for who in names), max)
