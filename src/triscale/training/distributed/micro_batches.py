"""Shards: a batch cut into equal parts, and sums over them in one fixed order.

The order is a binary tree over the micro-batches, whoever computes them: a process that has a whole branch of it hands
in one sum, so that one, two or four processes come to bitwise the same total.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from triscale.errors import RecipeError


def micro_batch_slices(count: int, micro_batches: int) -> list[slice]:
    """Cut ``count`` images into micro-batches whose sizes differ by one at most."""
    edges = [micro_batch * count // micro_batches for micro_batch in range(micro_batches + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]


def micro_batches_of(rank: int, processes: int, micro_batches: int) -> range:
    """Return the micro-batches of a process, counted from 0.

    Raises:
        RecipeError: they cannot be distributed so that each process has one branch of the tree of sums.
    """
    each, rest = divmod(micro_batches, processes)
    if rest or not all(
        _is_branch(0, micro_batches, first, first + each) for first in range(0, micro_batches, each or 1)
    ):
        raise RecipeError(
            f"{micro_batches} micro-batches cannot be distributed to {processes} processes; give a number of "
            f"micro-batches that is "
            f"{processes} or {processes} times a power of 2, for instance --set micro_batches={processes}"
        )
    return range(rank * each, (rank + 1) * each)


def share_of(rank: int, processes: int, micro_batches: int, count: int) -> slice:
    """Return the images of a process: the part of a batch of ``count`` that its micro-batches are.

    Raises:
        RecipeError: the micro-batches cannot be distributed.
    """
    mine, parts = micro_batches_of(rank, processes, micro_batches), micro_batch_slices(count, micro_batches)
    return slice(parts[mine.start].start, parts[mine.stop - 1].stop)


def tree_sum(first: int, last: int, leaf: Callable[[int, int], Tensor | None]) -> Tensor:
    """Sum over micro-batches ``first`` to ``last`` (exclusive) along the tree; operands are overwritten.

    Args:
        first: the first micro-batch.
        last: one beyond the last.
        leaf: the tensor of a branch, or None if it is to be divided further; it is asked for branches in order and must
            have an answer for single micro-batches.
    """
    known = leaf(first, last)
    if known is not None:
        return known
    middle = (first + last) // 2
    total = tree_sum(first, middle, leaf)
    return total.add_(tree_sum(middle, last, leaf))


def _is_branch(first: int, last: int, wanted_first: int, wanted_last: int) -> bool:
    if (first, last) == (wanted_first, wanted_last):
        return True
    if last - first <= 1:
        return False
    middle = (first + last) // 2
    return _is_branch(first, middle, wanted_first, wanted_last) or _is_branch(middle, last, wanted_first, wanted_last)
