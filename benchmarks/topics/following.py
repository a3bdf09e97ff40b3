"""What a burning host would have lost, and what it costs that the loss is small.

Beside the app, which follows, Litestream runs as people run it, as a daemon. Programs that make
whole backups begin the next as soon as one has ended: cron starts them less often.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.contenders.contender import ByCommand
from benchmarks.contenders.daemons import (
    Daemon,
    FollowingApp,
    LitestreamDaemon,
    wait_until,
)
from benchmarks.contenders.field import peers
from benchmarks.counting_proxy import CountingProxy
from benchmarks.databases import Pair, Values, change_rows, change_token
from benchmarks.loss import loss_windows
from benchmarks.measured import CommandTooLong, processor_seconds
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.rounds import rounds, say, settle
from benchmarks.samples import Sample, percentile
from benchmarks.topics.change import CHANGED_PART
from benchmarks.topics.writers import TRANSACTIONS_A_SECOND, Writer, own_copy

TOPIC = "following"
LOSS, OWN_LOSS = "loss window", "loss window, own report"
LOSS_FAR = "loss window, 50 ms a request"
PROVEN = "from a point's instant until it is proven"
P99 = "p99 of a commit"
BUSY, IDLE = f"CPU, {TRANSACTIONS_A_SECOND} transactions a second", "CPU, nothing changes"
IDLE_PUTS = "objects put, nothing changes"
SENT, STORED = "sent after", "stored after"
TOKEN, PART = "one token changed", "1% of the rows changed"
_TOKENS = 5
_QUIET_SECONDS = 2.5
_PATIENCE_SECONDS = 60.0
_NUMBERS = 1_000_000  # more than one window has
_FAR_SECONDS = 0.05
_KILOBYTE, _PER_CENT = 1024, 100


@dataclass
class _Seen:
    """What was found of one daemon: when each row of `sessions` was committed, by its number."""

    one: Daemon
    commits: dict[int, float] = field(default_factory=dict)
    windows: int = 0


def measure(plan: Plan, place: Place, results: Results) -> None:
    """At each size: windows with a writer in turns, then single changes, then nothing."""
    for megabytes in plan.follow_sizes:
        with CountingProxy(place.endpoint) as proxy:
            through = place.through(proxy.endpoint)
            with _everybody(plan, through, megabytes) as daemons:
                seen = [_Seen(one) for one in daemons]
                for one, counts in rounds(seen, min(plan.runs, 3), warm_up=not plan.quick):
                    _window(plan, one, megabytes, results, counts=counts)
                for one in seen:
                    _note_losses(one, proxy, megabytes, results)
                    if isinstance(one.one, FollowingApp) and one.one.follows:
                        _note_far(plan, one, proxy, megabytes, results)
                    if not _follows_nothing(one.one):
                        _single_changes(one.one, through, proxy, megabytes, results)
                for one in seen:
                    _idle(plan, one.one, proxy, megabytes, results)
            for make in peers(plan.programs):
                with own_copy(place, megabytes) as pair, closing(make(through, pair)) as peer:
                    if peer.name != "Litestream":  # it is here as a daemon
                        _whole_backups(plan, peer, through, proxy, megabytes, results)


@contextmanager
def _everybody(plan: Plan, place: Place, megabytes: float) -> Iterator[Sequence[Daemon]]:
    """Each with databases of its own, all at once: who is not written to has nothing to do."""
    with ExitStack() as stack:
        made: list[Daemon] = []
        for follows in (True, False):
            pair = stack.enter_context(own_copy(place, megabytes))
            app = FollowingApp(place, pair, follows=follows)
            made.append(stack.enter_context(closing(app)))
        if litestream := plan.programs.get("litestream"):
            pair = place.pair(megabytes)
            daemon = LitestreamDaemon(place, pair, litestream)
            made.append(stack.enter_context(closing(daemon)))
        yield made


def _window(plan: Plan, seen: _Seen, megabytes: float, results: Results, *, counts: bool) -> None:
    settle(plan)
    one = seen.one
    before, began = processor_seconds(one.pid), time.monotonic()
    found = _write(plan, seen, counts=counts)
    used = (processor_seconds(one.pid) - before) / (time.monotonic() - began)
    time.sleep(_QUIET_SECONDS)  # what was committed last is stored, too
    if not counts:
        return
    p99 = percentile([sample.seconds * 1000 for sample in found], 0.99)
    say(f"  {megabytes:g} MB, {one.name}: p99 {p99:.2f} ms, {used * _PER_CENT:.1f}% of a processor")
    results.add(TOPIC, megabytes, one.name, P99, "ms", [p99])
    results.add(TOPIC, megabytes, one.name, BUSY, "%", [used * _PER_CENT])


def _write(plan: Plan, seen: _Seen, *, counts: bool) -> Sequence[Sample]:
    """Write for a while; the commits, which are entered in what was `seen` if that `counts`."""
    first, seen.windows = seen.windows * _NUMBERS + 1, seen.windows + 1
    with closing(Writer(seen.one.pair, first)) as writer:
        time.sleep(plan.follow_seconds)
        _, wholes = writer.stop()
    if counts:
        seen.commits |= {
            number: one.began + one.seconds
            for number, one in enumerate(wholes, first)
            if number % 2 == 0
        }
    return wholes


def _note_far(
    plan: Plan, seen: _Seen, proxy: CountingProxy, megabytes: float, results: Results
) -> None:
    """The loss window while each request takes its time, as to a store in another place."""
    one = seen.one
    far = _Seen(one, windows=seen.windows)
    proxy.delay = _FAR_SECONDS
    try:
        _write(plan, far, counts=True)
        time.sleep(_QUIET_SECONDS)
    finally:
        proxy.delay = 0.0
    seen.windows = far.windows
    windows = loss_windows(far.commits, one.states(proxy.puts(one.bucket)))
    if not windows:
        raise RuntimeError(f"{one.name} stored nothing of what was written: nothing was measured")
    say(f"  {megabytes:g} MB, {one.name}: {max(windows):.2f} s, {LOSS_FAR}")
    results.add(TOPIC, megabytes, one.name, LOSS_FAR, "s", windows)


def _note_losses(seen: _Seen, proxy: CountingProxy, megabytes: float, results: Results) -> None:
    one = seen.one
    if _follows_nothing(one):
        return
    windows = loss_windows(seen.commits, one.states(proxy.puts(one.bucket)))
    if not windows:
        raise RuntimeError(f"{one.name} stored nothing of what was written: nothing was measured")
    results.add(TOPIC, megabytes, one.name, LOSS, "s", windows)
    if isinstance(one, FollowingApp) and (told := one.own_report()):
        results.add(TOPIC, megabytes, one.name, PROVEN, "s", [proven for proven, _ in told])
        lost = [window for _, window in told if window < 2 * _QUIET_SECONDS]  # not across a pause
        results.add(TOPIC, megabytes, one.name, OWN_LOSS, "s", lost)


def _single_changes(
    one: Daemon, place: Place, proxy: CountingProxy, megabytes: float, results: Results
) -> None:
    """The bytes that are sent from a commit until nothing has come for a while."""
    for what, change, unit, size, times in (
        (TOKEN, change_token, "KB", _KILOBYTE, _TOKENS),
        (PART, _change_part, "MB", _KILOBYTE**2, 1),
    ):
        for _ in range(times):
            before = place.objects(one.bucket)
            proxy.take()
            put = len(proxy.puts(one.bucket))
            change(one.pair, place.values)
            wait_until(lambda least=put: len(proxy.puts(one.bucket)) > least, what)  # type: ignore[misc]
            time.sleep(_QUIET_SECONDS)
            sent = proxy.take().sent / size
            new = place.objects(one.bucket).items() - before.items()
            stored = sum(of for _, (of, _) in new) / size
            say(f"  {megabytes:g} MB, {one.name}, {what}: {sent:.2f} {unit} sent")
            results.add(TOPIC, megabytes, one.name, f"{SENT} {what}", unit, [sent])
            results.add(TOPIC, megabytes, one.name, f"{STORED} {what}", unit, [stored])


def _change_part(pair: Pair, values: Values) -> None:
    change_rows(pair, CHANGED_PART, values)


def _idle(
    plan: Plan, one: Daemon, proxy: CountingProxy, megabytes: float, results: Results
) -> None:
    stored = len(proxy.puts(one.bucket))
    before, began = processor_seconds(one.pid), time.monotonic()
    time.sleep(plan.follow_seconds)
    used = (processor_seconds(one.pid) - before) / (time.monotonic() - began)
    results.add(TOPIC, megabytes, one.name, IDLE, "%", [used * _PER_CENT])
    put = len(proxy.puts(one.bucket)) - stored
    results.add(TOPIC, megabytes, one.name, IDLE_PUTS, "", [put])


def _whole_backups(
    plan: Plan,
    one: ByCommand,
    place: Place,
    proxy: CountingProxy,
    megabytes: float,
    results: Results,
) -> None:
    """From the beginning of one until the end of the next, without a pause between them.

    One that has no end within a minute while rows are written loses that minute, at the least.
    """
    one.prepare()
    times: list[tuple[float, float]] = []
    with closing(Writer(one.pair)) as writer:
        ends = time.monotonic() + plan.follow_seconds
        while time.monotonic() < ends or len(times) < 3:
            began = time.monotonic()
            try:
                one.backup_command().run(_PATIENCE_SECONDS)
            except CommandTooLong:
                note = (
                    f"{megabytes:g} MB, {one.name}: no end within {_PATIENCE_SECONDS:.0f} s while"
                    f" {TRANSACTIONS_A_SECOND} transactions a second were written"
                )
                say(f"  {note}")
                results.notes.append(note)
                break
            times.append((began, time.monotonic()))
        writer.stop()
    if windows := [after[1] - before[0] for before, after in pairwise(times)]:
        longest = max(windows)
        say(f"  {megabytes:g} MB, {one.name}: {longest:.1f} s from one beginning to the next end")
        results.add(TOPIC, megabytes, one.name, LOSS, "s", windows)
    one.prepare_again()
    one.backup()  # all that the writer has left
    change_token(one.pair, place.values)
    one.prepare_again()
    proxy.take()
    one.backup()
    sent = proxy.take().sent
    results.add(TOPIC, megabytes, one.name, f"{SENT} {TOKEN}", "KB", [sent / _KILOBYTE])


def _follows_nothing(one: Daemon) -> bool:
    return isinstance(one, FollowingApp) and not one.follows
