"""How a process learns which of several it is, and where the others are."""

from __future__ import annotations

import socket
import threading

import pytest

from voc_cls.errors import RunError, UsageError
from voc_cls.training import distribution
from voc_cls.training.distribution import Distribution, address_of, await_chief, rank_of


@pytest.mark.parametrize("name", distribution.RANK_VARIABLES)
def test_the_rank_comes_from_the_launcher(name: str):
    assert rank_of(None, 4, {name: "3"}) == 3


def test_a_flag_wins_over_the_launcher_and_ours_over_slurms():
    assert rank_of(0, 4, {"SLURM_PROCID": "3"}) == 0
    assert rank_of(None, 4, {"SLURM_PROCID": "3", "VOC_RANK": "1"}) == 1


@pytest.mark.parametrize(("given", "environment", "named"), [
    (None, {}, "`rank`"), (4, {}, "`rank` 4"), (-1, {}, "`rank` -1"), (None, {"SLURM_PROCID": "x"}, "$SLURM_PROCID x")])
def test_a_rank_that_is_none_is_named(given: int | None, environment: dict[str, str], named: str):
    with pytest.raises(UsageError, match=named.replace("$", r"\$")):
        rank_of(given, 4, environment)


def test_the_address_is_a_host_and_a_port():
    assert address_of("node01:12345", {"VOC_COORDINATOR": "other:1"}) == "node01:12345"
    assert address_of(None, {"VOC_COORDINATOR": "[::1]:12345"}) == "[::1]:12345"
    for wrong in ("node01", "node01:", ":12345", "node01:99999", "node01:http"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            address_of(wrong, {})
    with pytest.raises(UsageError, match="`coordinator`"):
        address_of(None, {})


def test_below_slurm_jax_finds_the_address():
    assert address_of(None, {"SLURM_JOB_ID": "17"}) is None


def test_rank_0_may_start_later_but_not_never(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distribution, "JOIN_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with pytest.raises(RunError, match=f"rank 1 does not reach rank 0 at {address}"):
        await_chief(address, 1)
    servers: list[socket.socket] = []
    timer = threading.Timer(0.5, lambda: servers.append(socket.create_server(("127.0.0.1", port))))
    timer.start()
    try:
        await_chief(address, 1)
    finally:
        timer.join()
        servers[0].close()


def test_shares_are_even_and_complete():
    for count in (0, 1, 7, 8, 100):
        shares = [Distribution(rank, 3).share(count) for rank in range(3)]
        assert [number for share in shares for number in range(count)[share]] == list(range(count))
        sizes = [share.stop - share.start for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_a_batch_has_to_be_divisible_among_the_devices():
    Distribution(replicas=4).check(32, 1)
    with pytest.raises(UsageError, match=r"`batch_size` 30.*4 devices"):
        Distribution(replicas=4).check(30, 1)
