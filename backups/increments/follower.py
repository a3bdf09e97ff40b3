"""The follower: begins chains, makes their points, ends them; one at a time on a host.

    idle -> a chain begins: a full was handed over, or the local copy of the newest one is whole
         -> steps, while nothing forbids the next one
         -> it ends: a newer full, a restore, the clock, another writer, what no increment carries

It makes no fulls: it says that it needs one, and goes on when there is one. Its caller calls `step`
about once a second, from one thread.

One file, because what a chain may do next depends on everything that can end it.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Literal

from backups.errors import ChainTaken, IncrementBroken, ManifestInvalid, ProofFailed, SealBroken
from backups.format.chain import EndReason, RestoredTo
from backups.format.chain_keys import chain_id, set_of
from backups.host.directory import disk_error
from backups.increments.capture import Capture, Captured
from backups.increments.chain import Ends, begin_chain
from backups.increments.keeping.self_check import Differs
from backups.increments.opening import copies_are_whole, is_known, open_chain
from backups.increments.outages import AWAY, UNREADABLE, note_outage
from backups.increments.parts import Parts
from backups.increments.seconds import note_seconds
from backups.increments.step import OpenChain
from backups.sets import missing
from backups.vocabulary.following import GRACE, Following
from shared.errors import AppError, DatabaseCorrupt, DiskFull, StoreError
from shared.logs import fields
from shared.process.lasting_work import note

_log = logging.getLogger("backups.follow")

# idle: nothing to do. stored: all that was written is in a proven point. waiting: not yet.
# needs_full: only a full can store what was written.
Outcome = Literal["idle", "stored", "waiting", "needs_full"]

# How far the clock may go back within a chain; its instants then wait.
MOST_BACK = 5_000
# A step may compute for this part of the time, beside reading logs: that is no less work later.
SHARE = 20
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 300.0
_ENDS_A_CHAIN = (ChainTaken, IncrementBroken, ManifestInvalid, ProofFailed, SealBroken)


class Follower:
    """Follows what `capture` captures, from the monotonic instant `not_before`. Close it."""

    def __init__(self, parts: Parts, capture: Capture) -> None:
        self._parts = parts
        self._steps = parts.steps
        self._folder = parts.folder
        self._ends = Ends(parts.steps, parts.clock)
        self._clock = parts.clock
        self._capture = capture
        self._chain: OpenChain | None = None
        self._looked = False
        self._refused: set[str] = set()  # local copies that are no good
        self.not_before = 0.0
        self._failures = 0
        self._noticed_at: float | None = None
        self._full_reason: str | None = None
        self._failing: dict[str, AppError] = {}
        self._late_because: str | None = None
        self._no_room: str | None = None
        self._compares_all = False  # at the next step, though nothing was noticed

    @property
    def following(self) -> Following:
        """How it follows, for status."""
        since, clock, waiting_since = self._noticed_at, self._clock, None
        waits = 0.0 if since is None else clock.monotonic() - since
        if waits > self._parts.delay + GRACE:
            waiting_since = clock.now().replace(microsecond=0) - timedelta(seconds=int(waits))
        if self._no_room is not None:
            return Following("stopped", self._no_room, waiting_since)
        if self._chain is not None:
            why = f"{', '.join(sorted(self._failing))} cannot be read" if self._failing else ""
            return Following(self._capture.how, why, waiting_since, self._damaged())
        reason = self._full_reason
        return Following("sets" if reason is None else "stopped", reason or "", waiting_since)

    @property
    def failing(self) -> frozenset[str]:
        """The sources that the last step could not read."""
        return frozenset(self._failing)

    @property
    def chain(self) -> str | None:
        """The chain that is being written."""
        return self._chain.id if self._chain else None

    def close(self) -> None:
        """Close what is open; the chain goes on at the next start."""
        if self._chain is not None:
            self._chain.close()
        self._chain = None
        self._capture.close()
        self._parts.lease.let_go()

    def step(self, *, hurry: bool = False) -> Outcome:
        """Do what is due, in a `hurry` also early. Raises `AppError` of what is not the chain's."""
        now = self._clock.monotonic()
        self._capture.poll(hurry=hurry)
        if self._capture.pending & self._parts.lasting and self._noticed_at is None:
            self._noticed_at = now
        if now < self.not_before and not self._comes_early(hurry):
            if self._no_room is not None:
                return self._asks_for_full()
            return "waiting" if self._noticed_at is not None else "idle"
        pending = set(self._capture.pending)
        if self._compares_all:
            self._capture.forget(self._capture.names)
        began, before = time.thread_time() - self._capture.log_seconds, self.chain
        try:
            outcome = self._step()
        except StoreError as error:
            self._failures += 1
            self._late_because = AWAY
            self._capture.let_go()
            wait = min(_FIRST_WAIT * 2.0 ** (self._failures - 1), _LONGEST_WAIT)
            self.not_before = self._clock.monotonic() + wait
            log = _log.warning if self._failures == 1 else _log.debug
            log("changes wait for the store: %s [%s]", error.message, error.code)
            note(error)
            return "waiting"
        except DiskFull as error:
            self._capture.pending = pending
            return self._wait_for_room(error)
        finally:
            self._parts.lease.let_go()
        if self._failures:
            _log.info("the store answers again: changes are stored")
        self._failures = 0
        if outcome != "waiting":
            self._compares_all = False
        if self._no_room is not None and outcome != "waiting":
            _log.info("there is room again: changes are followed")
            self._no_room = None
        cost = (time.thread_time() - self._capture.log_seconds - began) * SHARE
        if self.chain != before:  # a chain begins once a day, and its next point is waited for
            cost = 0.0
        self.not_before = max(now + max(self._parts.delay, cost), self._clock.monotonic())
        if outcome in ("idle", "stored"):
            note(None)
            self.not_before = self.not_before if outcome == "stored" else now
        return self._check() if outcome == "stored" else outcome

    def _comes_early(self, hurry: bool) -> bool:
        return self._parts.store_answers() if self._failures else hurry and self._no_room is None

    def _wait_for_room(self, error: DiskFull) -> Outcome:
        """The chain stays as it is until there is room; meanwhile fulls have what changes."""
        if self._no_room is None:
            _log.error("changes are not followed: %s [%s]", error.message, error.code)
        self._no_room, self._compares_all = error.message, True
        self._capture.let_go()
        self.not_before = self._clock.monotonic() + _FIRST_WAIT
        note(error)
        return self._asks_for_full()

    def _asks_for_full(self) -> Outcome:
        return "needs_full" if self._noticed_at is not None else "idle"

    def _check(self) -> Outcome:
        """What the chain finds when it checks itself; that costs no step its time."""
        checker, chain = self._parts.checker, self._chain
        if checker is None or chain is None:
            return "stored"
        try:
            found = checker.after_step(chain.id, chain.shadows, self._capture.copies)
        except OSError as error:
            _log.warning("chain %s could not check itself: %s", chain.id, error)
            return "stored"
        finally:
            self._capture.remove_copies()
        if isinstance(found, Differs):
            self._end("differs", found.reason)
        return "needs_full" if found is not None else "stored"

    def _step(self) -> Outcome:
        self._obey_restore()
        self._ends.send()
        if not self._looked:
            self._go_on()
            self._looked = True
        self._begin_if_handed()
        if self._chain is None:
            return "needs_full" if self._noticed_at is not None or self._full_reason else "idle"
        chain = self._chain
        if missing.breaks_after(self._steps.known, set_of(chain.id)):
            self._end("differs", "the store lost an object of it")
            return "needs_full"
        try:
            if chain.attempt is not None:
                self._finish(chain)
            if not self._capture.pending & self._parts.lasting:
                self._noticed_at = None
                return "idle"
            return self._capture_and_store(chain)
        except _ENDS_A_CHAIN as error:
            _log.error("chain %s ends: %s [%s]", chain.id, error.message, error.code)
            reason: EndReason = "two_writers" if isinstance(error, ChainTaken) else "differs"
            self._end(reason, error.message)
            return "needs_full"
        except OSError as error:
            found = disk_error(error, self._folder.path)
            if isinstance(found, DiskFull):
                raise found from error
            self._end("differs", f"its shadow cannot be written: {error.strerror or error}")
            return "needs_full"

    def _capture_and_store(self, chain: OpenChain) -> Outcome:
        # Only what touches live databases needs the lease: the store may take its time.
        if not self._parts.lease.take():
            self._capture.let_go()  # whoever has it may need the -wal to be empty
            return "waiting"
        if self._parts.facts.restored_chain() is not None:  # a restore was quicker
            return "waiting"
        before = set(self._capture.pending)
        checker = self._parts.checker
        self._capture.keeps_copies = checker is not None and checker.wants_copies
        captured = self._capture.take(chain.shadows, lambda _progress: self._parts.ask())
        self._parts.lease.rest()
        self._say_failing(captured)
        now = int(captured.instant.timestamp() * 1000)
        if captured.needs_full is not None:
            self._end("sources", captured.needs_full)
            return "needs_full"
        if now < chain.state.instant - MOST_BACK:
            self._capture.forget(before)
            self._end("clock", "the clock was set back")
            return "needs_full"
        if captured.deltas.keys() & self._parts.lasting:
            suspect = checker.suspicions(chain.id) if checker is not None else ()
            self._steps.prepare(chain, captured, "change", suspect)
            self._finish(chain)
        else:  # of what others cause nothing is lost: it is carried by the next
            self._capture.forget(captured.deltas)
        if self._capture.pending & self._parts.lasting:
            return "waiting"  # a source that could not be read
        self._noticed_at = self._late_because = None
        return "stored"

    def _finish(self, chain: OpenChain) -> None:
        began = self._noticed_at
        row = self._steps.finish(chain, self._now())
        took = self._clock.monotonic() - began if began is not None else 0.0
        _log.debug(
            "stored", extra=fields(chain=chain.id, number=row.number, bytes=row.bytes, seconds=took)
        )
        note_seconds(self._folder, took)
        if took > self._parts.delay + GRACE:
            since = self._clock.now() - timedelta(seconds=took)
            note_outage(self._folder, since, chain.state.instant, self._late_because)

    def _say_failing(self, captured: Captured) -> None:
        names = frozenset(captured.failures)
        self._late_because = UNREADABLE if names else self._late_because
        for name in sorted(names - self.failing):
            error = captured.failures[name]
            _log.error("%s is not followed: %s [%s]", name, error.message, error.code)
        for name in sorted(self.failing - names):
            _log.info("%s is followed again", name)
        self._failing = dict(captured.failures)
        if others := [self._failing[name] for name in names - self._damaged().keys()]:
            note(others[0])  # of damage, status says more

    def _damaged(self) -> dict[str, str]:
        failing = self._failing.items()
        return {name: one.message for name, one in failing if isinstance(one, DatabaseCorrupt)}

    # --- begin and go on ---------------------------------------------------------------

    def _go_on(self) -> None:
        """Open the chain of before; where that is not whole, it ends."""
        begun = self._folder.begun()
        for older in begun[1:]:
            self._ends.note_of_other(older, "new_chain")
        if not begun:
            return
        state = self._folder.state(begun[0])
        if state is not None and state.sources.keys() != self._capture.names:
            self._full_reason = "a source was added, or taken away"
            self._ends.note_of_other(begun[0], "sources")
            return
        chain = open_chain(self._parts, begun[0], state) if state is not None else None
        if chain is None:
            self._full_reason = "its shadow is not what it was"
            self._ends.note_of_other(begun[0], "differs")
            return
        self._chain = chain
        try:
            caught = self._steps.catch_up(chain, self._now())
        except StoreError:
            chain.close()
            self._chain = None
            raise
        except (*_ENDS_A_CHAIN, OSError) as error:
            _log.error("chain %s does not go on: %s", chain.id, error)
            self._end("two_writers" if isinstance(error, ChainTaken) else "differs", str(error))
            return
        self._capture.forget(chain.shadows)  # each start compares once
        _log.info("chain goes on", extra=fields(chain=chain.id, number=chain.state.number))
        if caught:
            _log.info("%d points of before were not noted, and are", caught)

    def _begin_if_handed(self) -> None:
        """Begin the chain of a full that was handed over; without a chain also of a local copy."""
        if self._chain is not None and not self._folder.handed():
            return
        newest = self._parts.catalogue.newest_protecting(self._parts.ours())
        if newest is None or newest.instance != self._steps.instance or newest.sequence is None:
            return
        name = chain_id(newest.id, newest.instance)
        if self._chain is not None and set_of(self._chain.id) >= newest.id:
            return
        if name in self._refused:
            return
        if is_known(self._parts, name):
            self._folder.drop(name) if name in self._folder.handed() else None
            return
        if name not in self._folder.handed():
            if self._chain is not None:
                return
            if not copies_are_whole(self._parts, newest):
                self._refused.add(name)
                return
            self._folder.hand_over(
                name,
                {one.source: self._parts.copy_of(newest.id, one.source) for one in newest.objects},
            )
        chain = begin_chain(self._steps, name, newest, self._now())
        if chain is None:
            self._refused.add(name)
            return
        self._end("new_chain", "")
        self._chain = chain
        self._capture.pending |= set(chain.shadows)
        self._full_reason = None

    # --- ends --------------------------------------------------------------------------

    def _end(self, reason: EndReason, why: str, restored_to: RestoredTo | None = None) -> None:
        chain = self._chain
        if chain is None:
            return
        if reason != "new_chain":
            ends = "chain %s ends after number %d, and a full follows: %s"
            _log.warning(ends, chain.id, chain.state.number, why or reason)
            self._full_reason = why or reason
        chain.close()
        self._chain = None
        if reason == "two_writers":  # an end would cut off the points of the other one
            self._folder.drop(chain.id)
            self._refused.add(chain.id)
        else:
            self._ends.note(chain.id, chain.state.number, reason, restored_to)

    def _obey_restore(self) -> None:
        """A restore replaced live data: the chain ends there."""
        restored = self._parts.facts.restored_chain()
        if restored is None:
            return
        if not self._looked:  # nothing is applied to what a restore ended
            for name in self._folder.begun():
                state = self._folder.state(name)
                self._ends.note(name, state.number if state else 0, "restore", _to(restored))
            self._looked = True
        self._end("restore", "live data was restored", _to(restored))
        self._full_reason = "live data was restored"
        self._capture.pending |= self._parts.lasting
        self._noticed_at = self._noticed_at or self._clock.monotonic()
        self._parts.facts.forget_restored_chain()

    def full_made(self) -> None:
        """A full run has ended well: it has what was noticed before it."""
        self._full_reason = self._noticed_at = None
        self._refused.clear()
        self._capture.pending.clear()
        self.not_before = 0.0
        self._compares_all = self._chain is not None  # it may lack what the full has

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _to(text: str) -> RestoredTo | None:
    if text == "undo":
        return None
    point, _, rest = text.partition(" ")
    instant, _, sequence = rest.partition(" ")
    return RestoredTo(point, int(instant), int(sequence) if sequence else None)
