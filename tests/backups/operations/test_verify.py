"""Tests of `backups.operations.verify`: proving a stored set again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from backups.errors import NoRestorePoint, SetNotFound
from backups.format import naming
from shared.errors import AppError
from tests.support.bench import MANIFEST, PREFIX, SESSIONS, TOKENS, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.store_wrappers import WatchedStore, fail, put


def test_a_good_verification_renews_the_proof(either_bench: Bench, clock: FixedClock) -> None:
    """Proving the newest set again reads the store and leaves a verdict beside the manifest."""
    bench = either_bench
    made = bench.made()
    clock.advance(days=9)

    run = bench.verify()

    assert (run.operation, run.status, run.error) == ("verify", "succeeded", None)
    assert run.set_id == made.id
    key = naming.verdict_key(PREFIX, made.id, "proof", clock.now())
    assert bench.json_of(key)["proof"] == "full"
    proven = bench.service.catalogue.get(made.id)
    assert proven.protects
    assert proven.proven_at == clock.now()
    assert bench.staged() == []


def tamper(bench: Bench, key: str) -> None:
    """Flip a bit of a stored object, as its store, or who holds its keys, could."""
    content = bytearray(bench.bytes_of(key))
    content[5000] ^= 1
    metadata = dict(bench.store.head(key).metadata)
    bench.store.delete(key)
    bench.store.put(key, io.BytesIO(bytes(content)), metadata)


def test_a_failed_verification_ends_the_protection(
    either_bench: Bench, tmp_path: Path, clock: FixedClock
) -> None:
    """A set whose bytes changed is no restore point any more, here and on every other host."""
    bench = either_bench
    older = bench.made()
    clock.advance(days=1)
    newer = bench.made()
    tamper(bench, newer.objects[1].key)

    run = bench.verify(newer.id)

    assert (run.status, run.set_id) == ("failed", newer.id)
    assert run.error is not None
    assert run.error.code == "proof_failed"
    assert newer.objects[1].key in run.error.message
    assert bench.service.catalogue.newest_protecting() == older
    assert bench.service.status().newest_restore_point == older
    with open_bench(
        tmp_path, bench.store, clock=clock, directory="other-host", sources=bench.sources
    ) as other:
        other.service.own_sets.refresh()
        assert other.service.catalogue.newest_protecting() == older
        assert other.service.catalogue.get(newer.id).proof == "none"
    assert newer.objects[1].key in bench.all_keys()  # a bad set is not deleted either


def test_an_object_that_is_gone_ends_the_protection(bench: Bench) -> None:
    """A set without one of its objects fails its verification."""
    made = bench.made()
    bench.store.delete(made.objects[0].key)

    run = bench.verify(made.id)

    assert run.error is not None
    assert run.error.code == "proof_failed"
    assert bench.service.catalogue.newest_protecting() is None


def test_a_store_that_does_not_answer_is_no_verdict(bench: Bench, store: WatchedStore) -> None:
    """A verification that could not read keeps the set as proven as it was."""
    made = bench.made()
    before = bench.all_keys()
    store.before("get", SESSIONS, fail)

    run = bench.verify(made.id)

    assert run.status == "failed"
    assert run.error is not None
    assert run.error.code == "store_unreachable"
    assert bench.all_keys() == before
    assert bench.service.catalogue.newest_protecting() == made
    assert bench.is_free()


def test_a_set_that_is_whole_again_protects_again(bench: Bench, clock: FixedClock) -> None:
    """The latest verdict counts: bytes that came back are proven anew."""
    made = bench.made()
    content = bench.bytes_of(TOKENS)
    bench.store.delete(TOKENS)
    assert bench.verify(made.id).status == "failed"
    clock.advance(seconds=1)
    put(bench.store, TOKENS, content)

    assert bench.verify(made.id).status == "succeeded"

    assert bench.service.catalogue.newest_protecting() is not None


def test_two_verifications_in_one_second_both_count(bench: Bench) -> None:
    """A verdict waits for a second of its own when there has been one in this."""
    made = bench.made()

    assert bench.verify(made.id).status == "succeeded"
    tamper(bench, TOKENS)
    run = bench.verify(made.id)

    assert run.error is not None
    assert run.error.code == "proof_failed"
    assert not bench.service.catalogue.get(made.id).protects
    assert len([key for key in bench.all_keys() if "/proof-" in key]) == 2


def test_a_set_of_another_host_can_be_verified(
    bench: Bench, tmp_path: Path, store: WatchedStore, clock: FixedClock
) -> None:
    """Verification looks into the store first, so that a set need not be known here."""
    made = bench.made()

    with open_bench(
        tmp_path, store, clock=clock, directory="other-host", sources=bench.sources
    ) as other:
        assert other.verify(made.id).status == "succeeded"


@pytest.mark.parametrize("set_id", ["20200101T000000Z", "../20261122T010000Z", "newest"])
def test_a_set_that_is_not_there_is_refused_by_name(bench: Bench, set_id: str) -> None:
    """Without a set of that name, or any at all, no run is started."""
    with pytest.raises(SetNotFound):
        bench.verify(set_id)

    assert bench.service.run_log.page(9) == []
    assert bench.is_free()


def test_a_damaged_set_is_refused_by_name(bench: Bench, store: WatchedStore) -> None:
    """Verifying a set whose manifest cannot be read says that it cannot be read."""
    put(store, MANIFEST, b'{"format": 1, "id":')

    with pytest.raises(AppError) as caught:
        bench.verify("20261122T010000Z")

    assert caught.value.code == "manifest_invalid"


def test_with_no_restore_point_there_is_nothing_to_verify(bench: Bench) -> None:
    """The newest of none is told by name, with the way to a first one."""
    with pytest.raises(NoRestorePoint, match="no complete, proven restore point"):
        bench.verify(None)
