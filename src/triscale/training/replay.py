"""Replays of training steps: a value that changes in memory without being written gives the same step two results.

A step is a pure function of state and batch, so a step that is taken twice gives bitwise the same state::

    step s - 1     rest: waiting for images, a checkpoint       step s
    ----------|-- state ---------------------------- same? --|-- first, with the batch ------------> A
              |-- copy ------------------------------ as? ---|-- again, with the batch read again --> B    A = B?

Found is every change of a bit that reaches the state: in the state or its copy, from the end of step s - 1 on, in the
batch, and in gradients, activations or results of step s. Not found are changes in steps that are not replayed, and in
what both results have in common: image files and labels in memory, the teacher, and the program itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from triscale.data.pipeline.order import is_replayed
from triscale.errors import CorruptionError, TriscaleError
from triscale.nn.classifier import Classifier
from triscale.training.context import ExecutionContext
from triscale.training.engine import TrainingEngine
from triscale.training.evaluate import LabeledBatch
from triscale.training.recipe import Recipe
from triscale.training.recompute import is_out_of_memory
from triscale.training.state.state import restore_tensors, to_tensors

MAX_NAMED = 3
WHAT_TO_DO = (
    "no checkpoint was written of it; test the memory of this machine, for example with memtest86+, and run the same "
    "command again, which resumes from the checkpoint before"
)


def replay_interval(recipe: Recipe, context: ExecutionContext) -> int:
    """Return the steps from one that is replayed to the next; 0 where equal steps need not be bitwise equal.

    That is torch on GPUs, and processes that leave the order of a sum to the backend.

    Example:
        >>> replay_interval(Recipe(replay_every=50), ExecutionContext())
        50
    """
    if context.engine == "torch" and context.device.type != "cpu":
        return 0
    return 0 if context.group.size > 1 and recipe.grad_reduction == "fast" else recipe.replay_every


@dataclass(slots=True, kw_only=True)
class Replay:
    """Takes some steps of a training twice, and compares.

    Attributes:
        engine: Takes the steps.
        every: Steps from one that is replayed to the next; 0 for none.
        context: The processes, which all decide alike, and where messages go.
    """

    engine: TrainingEngine
    every: int
    context: ExecutionContext
    _kept: dict[str, Tensor] | None = field(init=False, default=None)

    def keep(self) -> None:
        """Copy the state if the next step is replayed."""
        self._kept = None
        if is_replayed(self.engine.state.step, self.every):
            self._kept = self._copy()

    def check_rest(self) -> None:
        """Check that the state is still what :meth:`keep` copied.

        Raises:
            CorruptionError: It is not.
        """
        if self._kept is None:
            return
        changed = differing(self._kept, self._tensors())
        if self._any(bool(changed)):
            raise CorruptionError(
                f"the state of the training changed after step {self.engine.state.step} while nothing wrote to it "
                f"({_named(changed)}): memory or processor are doubtful; {WHAT_TO_DO}"
            )

    def take(self, batch: LabeledBatch, take: Callable[[LabeledBatch], None]) -> None:
        """Take a step; if it is replayed, take it again from the copy and compare.

        Args:
            batch: The batch; ``again`` is what the second step takes.
            take: Takes a step.

        Raises:
            CorruptionError: The results differ, and so they do not because the model is not deterministic.
        """
        before, self._kept, step = self._kept, None, self.engine.state.step
        if before is None:
            take(batch)
            return
        failure = self._attempt(take, batch)
        first = self._copy()
        if first is None:
            if failure is not None:
                raise failure
            return

        def retake() -> Exception | None:
            state = self.engine.state
            state.step = step
            state.optimizer.zero_grad(set_to_none=True)  # those of a step that failed are still there
            restore_tensors(state, before)
            self.engine.write_state()
            return self._attempt(take, batch if batch.again is None else batch.again)

        other = retake()
        if failure is not None and other is not None:
            raise failure  # it is no corruption, but what this step does
        failure = failure or other
        changed, images = differing(first, self._tensors()), self._any(_images_differ(batch))
        if not images and not self._any(bool(changed) or failure is not None):
            return
        second = {name: value.clone() for name, value in self._tensors().items()}
        retake()
        third = self._tensors()
        as_first, as_second = (not self._any(bool(differing(one, third))) for one in (first, second))
        certain = as_first or as_second or images or failure is not None
        if not certain and not isinstance(self.engine.state.model, Classifier):
            self.every = 0
            self.context.progress.note(
                f"step {step + 1} gave three results when it was taken three times from the same state: the custom "
                "model is not deterministic, so steps are not replayed, and silent corruption would not be found"
            )
            return
        third_gave = "the second" if as_second else "the first" if as_first else "neither"
        what = f"one ended with {failure!r}" if failure else "the images differ" if images else _named(changed)
        raise CorruptionError(
            f"step {step + 1} gave two results when it was taken twice from the same state ({what}; a third time gave "
            f"{third_gave}): memory or processor are doubtful; {WHAT_TO_DO}"
        ) from failure

    def _attempt(self, take: Callable[[LabeledBatch], None], batch: LabeledBatch) -> Exception | None:
        """Take a step; return the error that a changed value may cause, such as a division by a count of 0.

        Where processes train together, an error of one cannot be undone in the others, and is raised.
        """
        try:
            take(batch)
        except (ArithmeticError, LookupError, ValueError, RuntimeError) as error:
            if isinstance(error, TriscaleError) or is_out_of_memory(error) or self.context.group.size > 1:
                raise
            return error
        return None

    def _tensors(self) -> dict[str, Tensor]:
        self.engine.read_state()
        return to_tensors(self.engine.state).values

    def _copy(self) -> dict[str, Tensor] | None:
        """Return a copy of the state; None if some process lacks the memory, and then no step is replayed any more."""
        copied: dict[str, Tensor] | None = None
        try:
            copied = {name: value.detach().clone() for name, value in self._tensors().items()}
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self._any(copied is None):
            self.every = 0
            self.context.progress.note("a copy of the state does not fit into memory, so steps are not replayed")
            return None
        return copied

    def _any(self, here: bool) -> bool:
        """Return whether something is true in any process."""
        group = self.context.group
        if group.size == 1:
            return here
        return int(group.add(torch.tensor([here], dtype=torch.int32, device=self.context.device))) > 0


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that are not bitwise equal, or that only one has.

    Example:
        >>> differing({"a": torch.tensor([0.0])}, {"a": torch.tensor([-0.0])})
        ['a']
    """
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or not _is_same(one[name], other[name])
    ]


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _is_same(one: Tensor, other: Tensor) -> bool:
    # As integers, since NaN differs from itself and 0 equals -0.
    kind = _BITS[one.element_size()]
    return one.dtype == other.dtype and torch.equal(one.detach().view(kind), other.detach().view(kind))


def _images_differ(batch: LabeledBatch) -> bool:
    again = batch.again
    return again is not None and not (
        torch.equal(batch.images, again.images)
        and torch.equal(batch.labels, again.labels)
        and torch.equal(batch.indices, again.indices)
    )


def _named(names: list[str]) -> str:
    if not names:  # it is another process that found it
        return "in another process"
    shown = ", ".join(names[:MAX_NAMED])
    return f"{len(names)} tensors, such as {shown}" if len(names) > MAX_NAMED else shown
