"""The order is a pure function of seed and epoch, and batches divide the samples evenly."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from triscale.data.pipeline.order import batch_slices, epoch_order, sample_seed


@given(st.integers(0, 500), st.integers(0, 2**63), st.integers(0, 10**6))
def test_order_is_a_permutation_and_repeats(size: int, seed: int, epoch: int) -> None:
    order = epoch_order(size, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(size))
    assert np.array_equal(order, epoch_order(size, seed, epoch))


def test_order_is_platform_independent() -> None:
    assert epoch_order(10, 0, 0).tolist() == [0, 8, 9, 3, 7, 5, 1, 2, 6, 4]
    assert epoch_order(10, 7, 3).tolist() == [7, 1, 9, 6, 0, 4, 2, 8, 3, 5]
    assert [sample_seed(0, 0, 0), sample_seed(7, 3, 1)] == [1279368494785126216, 8612084309167925299]


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_every_position_is_equally_likely() -> None:
    mean = np.mean([np.argsort(epoch_order(20, 1, epoch)) for epoch in range(2000)], axis=0)
    # A place is uniform on 0 .. 19: deviation 5.77, and 0.13 for the mean of 2000.
    assert np.abs(mean - 9.5).max() < 4.5 * 0.13


@given(st.integers(0, 3000), st.integers(1, 400))
def test_batches_hold_every_sample_once_with_sizes_within_one(size: int, batch: int) -> None:
    slices = batch_slices(size, batch)
    assert [index for part in slices for index in range(size)[part]] == list(range(size))
    lengths = {part.stop - part.start for part in slices}
    assert len(slices) == -(-size // batch)
    assert all(0 < length <= batch for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1


def test_sample_seeds_do_not_collide() -> None:
    seeds = [sample_seed(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len({seed & 0xFFFFFFFF for seed in seeds}) > len(seeds) - 20
    ones = np.mean([[seed >> bit & 1 for bit in range(63)] for seed in seeds], axis=0)
    assert np.abs(ones - 0.5).max() < 0.03
