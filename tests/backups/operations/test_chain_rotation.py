"""Rotation and chains: what the old key has marked is named by one mark with the new one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.format import chain as chain_format
from backups.format import chain_keys
from backups.format.chain import ChainMark
from backups.format.mark import Marks
from backups.increments.keeping.pack import Packing, pack_chain
from backups.increments.keeping.removal import ChainRemoval
from backups.model import Source
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.errors import AppError
from tests.support.app_process import AppProcess
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.chains import StoredChain, all_rows, stored_chain
from tests.support.clock import FixedClock
from tests.support.databases import make_sources, write
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation, installation_in
from tests.support.marks import a_token_key, mark_key_of
from tests.support.store_wrappers import WatchedStore
from tests.support.waiting import eventually
from tests.support.warm_python import run_warm

OLD, NEW, NEXT = (mark_key_of(a_token_key(name)) for name in ("old", "new", "next"))
BY_OLD = Marks([OLD], PREFIX)

Open = Callable[..., Bench]


@pytest.fixture
def opened(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Open]:
    """Opens a bench with these keys over the same store and databases."""
    sources: list[Source] = list(make_sources(tmp_path / "data", 60))
    with ExitStack() as stack:

        def opening(*keys: Any, **changes: Any) -> Bench:
            return stack.enter_context(
                open_bench(tmp_path, store, clock=clock, sources=sources, mark_keys=keys, **changes)
            )

        yield opening


@pytest.fixture
def chain(opened: Open, clock: FixedClock) -> Iterator[StoredChain]:
    """A chain by the old key: a pack of two points, a differential of the fourth, six points."""
    bench = opened(OLD)
    with stored_chain(bench, bench.made(), marks=BY_OLD) as found:
        for number in range(1, 7):
            write(bench.tokens, "UPDATE tokens SET value = ? WHERE rowid = 1", f"value {number}")
            found.step(noted=True)
            if number == 4:
                found.differential()
        bench.service.catalogue.refresh()
        found.pack(1, 2)
        found.check(6)
        found.end("new_chain")
        clock.advance(minutes=1)
        yield found


def marks_of(bench: Bench, chain: StoredChain) -> list[str]:
    """The keys of the later marks of a chain."""
    return [key for key in bench.all_keys() if f"/chains/{chain.id}/mark-" in key]


def rotated(opened: Open, *keys: Any) -> Bench:
    """A host that has marked all of it again with the first of these keys."""
    bench = opened(*keys)
    bench.service.rotation.mark_again()
    return bench


def restores(bench: Bench, chain: StoredChain, number: int, to: Path) -> None:
    """A point is restored to what it was."""
    bench.restored(chain.point(number), to=to)
    for source in ("tokens", "sessions"):
        assert all_rows(to / f"{source}.db") == chain.rows(number)[source]


def refused(bench: Bench, chain: StoredChain, number: int, to: Path) -> bool:
    """Whether a point is not restored, in the plan or in the run."""
    try:
        return bench.restore(chain.point(number), to=to).error is not None
    except AppError:
        return True


def test_a_chain_gets_one_object_and_needs_the_old_key_no_more(
    opened: Open, chain: StoredChain, tmp_path: Path
) -> None:
    """With the new key alone another host restores each point, and names nothing as refused."""
    bench = rotated(opened, NEW, OLD)

    (key,) = marks_of(bench, chain)
    metadata = bench.store.head(key).metadata
    assert (metadata["chain"], metadata["instance"]) == (chain.id, chain.full.instance)
    named = chain_format.load(ChainMark, bench.bytes_of(key), key=key, chain=chain.id).documents
    below = {one.key.rpartition(f"/{chain.id}/")[2] for one in bench.store.list(PREFIX + "chains/")}
    assert named.keys() == below - {key.rpartition("/")[2]}
    elsewhere = opened(NEW, directory="next")
    elsewhere.service.catalogue.refresh()
    assert elsewhere.service.restore.plan("latest").backup_set.id == chain.point(6)
    for number in range(1, 7):
        restores(elsewhere, chain, number, tmp_path / f"to-{number}")
    assert elsewhere.service.catalogue.chains.warnings() == ()


def test_the_host_itself_needs_it_as_well(opened: Open, chain: StoredChain, tmp_path: Path) -> None:
    """What a host knew before the rotation counts for it only by the new mark."""
    bench = rotated(opened, NEW, OLD)
    restores(bench, chain, 6, tmp_path / "with")
    bench.store.delete(marks_of(bench, chain)[0])
    bench.service.catalogue.refresh()
    assert bench.service.restore.plan("latest").backup_set.id == chain.full.id


def test_repeated_it_marks_nothing_and_the_next_rotation_marks_again(
    opened: Open, chain: StoredChain, clock: FixedClock, tmp_path: Path
) -> None:
    """Also where the first key of all is long gone: the second one has vouched for it."""
    bench = rotated(opened, NEW, OLD)
    clock.advance(minutes=1)
    bench.service.rotation.mark_again()
    assert len(marks_of(bench, chain)) == 1

    rotated(opened, NEXT, NEW)

    assert len(marks_of(bench, chain)) == 2
    restores(opened(NEXT, directory="next"), chain, 5, tmp_path / "to")


def test_a_key_that_is_taken_gets_no_other_content(
    opened: Open, chain: StoredChain, clock: FixedClock, tmp_path: Path
) -> None:
    """The mark takes the next second; nothing is overwritten."""
    taken = chain_keys.mark_key(PREFIX, chain.id, clock.now())
    chain.put(taken, b"{}")

    bench = rotated(opened, NEW, OLD)

    assert bench.bytes_of(taken) == b"{}"
    restores(opened(NEW, directory="next"), chain, 5, tmp_path / "to")


def test_many_objects_take_more_than_one_mark(
    opened: Open, chain: StoredChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is as small as any document; together they name all."""
    monkeypatch.setattr("backups.operations.marking.chain_marks.MOST_MARKED", 3)
    bench = rotated(opened, NEW, OLD)
    assert len(marks_of(bench, chain)) == 3
    restores(opened(NEW, directory="next"), chain, 5, tmp_path / "to")


@pytest.mark.parametrize("keys", [(NEW,), (NEW, OLD)], ids=["new key alone", "old key still here"])
def test_who_has_the_old_key_changes_no_point(
    opened: Open, chain: StoredChain, tmp_path: Path, keys: tuple[Any, ...]
) -> None:
    """An increment that was marked anew with it is refused, and so is one that it adds."""
    rotated(opened, NEW, OLD)
    key = chain.key(3)
    line, _, rest = chain.bench.bytes_of(key).partition(b"\n")
    other = {**json.loads(line), "trigger": "planted"}
    chain.bench.replace_object(
        key, BY_OLD.sign_line(key, json.dumps(other).encode()) + b"\n" + rest
    )
    chain.step()

    host = opened(*keys, directory="next")
    host.service.catalogue.refresh()

    assert refused(host, chain, 3, tmp_path / "third")
    restores(host, chain, 2, tmp_path / "second")
    assert refused(host, chain, 7, tmp_path / "added")
    restores(host, chain, 6, tmp_path / "sixth")  # by the differential, past the broken one


def test_who_has_the_old_key_vouches_for_nothing(
    opened: Open, chain: StoredChain, clock: FixedClock
) -> None:
    """A later mark counts only if it is marked with a key that counts."""
    bench = rotated(opened, NEW, OLD)
    document = bench.bytes_of(marks_of(bench, chain)[0])
    bench.store.delete(marks_of(bench, chain)[0])
    key = chain_keys.mark_key(PREFIX, chain.id, clock.now() + timedelta(minutes=1))
    chain.put(key, BY_OLD.sign(key, document))

    host = opened(NEW, OLD, directory="next")
    host.service.catalogue.refresh()

    assert host.service.restore.plan("latest").backup_set.id == chain.full.id


def test_a_host_that_knew_it_for_foreign_learns_of_the_mark(
    opened: Open, chain: StoredChain, tmp_path: Path
) -> None:
    """What was refused while nothing vouched for it is read again."""
    host = opened(NEW, directory="next")
    host.service.catalogue.refresh()
    assert host.service.catalogue.chains.warnings() != ()
    rotated(opened, NEW, OLD)

    host.service.catalogue.refresh()

    assert host.service.catalogue.chains.warnings() == ()
    restores(host, chain, 6, tmp_path / "to")


def test_chains_of_others_are_not_marked(opened: Open, chain: StoredChain) -> None:
    """They are theirs to mark again."""
    opened(NEW, OLD, directory="theirs").service.rotation.mark_again()
    assert marks_of(chain.bench, chain) == []


def test_points_are_packed_with_the_new_key_alone(
    opened: Open, chain: StoredChain, tmp_path: Path
) -> None:
    """Their own marks are of the old key: that the chain's mark names them is enough."""
    bench = rotated(opened, NEW, OLD)
    (tmp_path / "scratch").mkdir()
    packing = Packing(
        bench.store,
        bench.known,
        Marks([NEW], PREFIX),
        chain.full.instance,
        tmp_path / "scratch",
    )

    assert pack_chain(packing, chain.id, chain.instant, ended=True) == 1

    assert not [key for key in bench.all_keys() if "/i/" in key]
    host = opened(NEW, directory="next")
    for number in (3, 6):
        restores(host, chain, number, tmp_path / f"to-{number}")


def test_an_unread_pack_is_described_by_the_mark(opened: Open, chain: StoredChain) -> None:
    """Before a prune a host reads the packs that it knows by name alone: these are ours."""
    rotated(opened, NEW, OLD)
    host = opened(NEW, directory="next")
    host.service.catalogue.refresh()
    with host.known.transaction() as connection:
        connection.execute("UPDATE chain_objects SET mark = NULL WHERE kind = 'pack'")

    removal = ChainRemoval(host.store, host.known, host.service.config.marks)

    removal.describe_packs({chain.full.instance}, lambda: None)

    assert host.service.catalogue.chains.warnings() == ()


@pytest.mark.slow
def test_points_of_the_app_survive_a_rotation_and_the_host(tmp_path: Path) -> None:
    """Points are made, the keys rotate, the old key goes, the host burns: the point comes back."""
    bucket = tmp_path / "bucket"
    old = installation_in(tmp_path / "host", BACKUP_LOCAL_STORE=str(bucket))
    old.make_databases()
    with AppProcess.start(old) as app:
        eventually(lambda: list(bucket.glob("backups/chains/*/head.json")), "a chain")
        put_token(old, TOKEN_ENCRYPTION_KEY, "the new refresh token")
        eventually(lambda: list(bucket.glob("backups/chains/*/i/*.inc")), "an increment")
        app.terminate()
    (increment,) = bucket.glob("backups/chains/*/i/*.inc")
    instant = json.loads(increment.read_bytes().partition(b"\n")[0])["instant"]
    new = a_token_key("new")
    both = old.with_settings(TOKEN_ENCRYPTION_KEYS=f"{new},{TOKEN_ENCRYPTION_KEY}")
    done = run_warm(
        [both.command()[0], "-m", "shared", "rotate-keys"], cwd=both.folder, env=both.environment
    )
    assert done.returncode == 0, done.stderr
    assert "Marked 1 set and 1 chain again with the first key" in done.stdout
    shutil.rmtree(old.folder)

    # Tokens of before the rotation need the key that encrypted them; the marks do not.
    host = installation_in(
        tmp_path / "new", BACKUP_LOCAL_STORE=str(bucket), TOKEN_ENCRYPTION_KEYS=new
    )
    host.tokens_path.parent.mkdir(parents=True)
    point = f"{increment.parts[-3].partition('-')[0]}.1"
    at = (datetime.fromtimestamp(instant / 1000, UTC) + timedelta(seconds=1)).isoformat()
    restored = host.json("restore", "--at", at, "--to", str(tmp_path / "to"))
    assert restored["set_id"] == point
    cipher = TokenCipher((TOKEN_ENCRYPTION_KEY,))
    with closing(TokenStorage(tmp_path / "to" / "tokens.db", cipher)) as tokens:
        assert tokens.get("ROTATED") == "the new refresh token"
    stored = bytearray(increment.read_bytes())
    stored[-1] ^= 1
    increment.write_bytes(bytes(stored))
    refused_ = host.cli("restore", point, "--to", str(tmp_path / "tampered"))
    assert refused_.returncode != 0
    assert "The newest good second before it" in refused_.stderr


def put_token(host: Installation, key: str, value: str) -> None:
    """Write one token as the app does."""
    with closing(TokenStorage(host.tokens_path, TokenCipher((key,)))) as tokens:
        tokens.put("ROTATED", value)
