r"""Micro-batches: a batch cut into equal parts, and sums over them in one fixed order.

The order is a binary tree over the micro-batches, independent of the process that computes each. A process that owns a
whole branch contributes one sum, so that 1, 2 or 4 processes get bitwise the same total:

            total
           /     \
       0 + 1     2 + 3       two processes: one branch each
       /  \      /  \
      0    1    2    3       four processes: one micro-batch each
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from triscale.errors import RecipeError


def micro_batch_slices(count: int, micro_batches: int) -> list[slice]:
    """Cut ``count`` images into micro-batches whose sizes differ by at most one.

    Example:
        >>> micro_batch_slices(5, 2)
        [slice(0, 2, None), slice(2, 5, None)]
    """
    edges = [micro_batch * count // micro_batches for micro_batch in range(micro_batches + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]


def micro_batches_of(rank: int, processes: int, micro_batches: int, *, what: str = "processes") -> range:
    """Return the micro-batches of a process, counted from 0; ``what`` names other parts of a machine in the message.

    Raises:
        RecipeError: They cannot be distributed so that each process has one branch of the summation tree.

    Example:
        >>> micro_batches_of(rank=1, processes=2, micro_batches=4)
        range(2, 4)
    """
    each, rest = divmod(micro_batches, processes)
    if rest or not all(
        _is_branch(0, micro_batches, first, first + each) for first in range(0, micro_batches, each or 1)
    ):
        raise RecipeError(
            f"{micro_batches} micro-batches cannot be distributed to {processes} {what}; give {processes} times a "
            f"power of 2 (1 included), for example --set micro_batches={processes}"
        )
    return range(rank * each, (rank + 1) * each)


def share_of(rank: int, processes: int, micro_batches: int, count: int) -> slice:
    """Return which images of a batch of ``count`` belong to the micro-batches of a process.

    Raises:
        RecipeError: The micro-batches cannot be distributed.
    """
    mine, parts = micro_batches_of(rank, processes, micro_batches), micro_batch_slices(count, micro_batches)
    return slice(parts[mine.start].start, parts[mine.stop - 1].stop)


def tree_sum(first: int, last: int, leaf: Callable[[int, int], Tensor | None]) -> Tensor:
    """Sum over micro-batches ``first`` to ``last`` (exclusive) along the tree; operands are overwritten.

    Args:
        first: The first micro-batch.
        last: One beyond the last.
        leaf: Returns the tensor of a branch, or None to split the branch further. It is called in order, and must
            return a tensor for a single micro-batch.
    """
    value = leaf(first, last)
    if value is not None:
        return value
    middle = (first + last) // 2
    total = tree_sum(first, middle, leaf)
    return total.add_(tree_sum(middle, last, leaf))


def _is_branch(first: int, last: int, branch_first: int, branch_last: int) -> bool:
    if (first, last) == (branch_first, branch_last):
        return True
    if last - first <= 1:
        return False
    middle = (first + last) // 2
    return _is_branch(first, middle, branch_first, branch_last) or _is_branch(middle, last, branch_first, branch_last)
