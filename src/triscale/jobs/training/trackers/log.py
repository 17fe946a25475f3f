"""All trackers of a training: chosen by name, kept apart from the training and from each other."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from triscale.errors import Interrupted, UserError, nearest
from triscale.jobs.core.run import RunFolder, RunSpec
from triscale.jobs.training.trackers.mlflow import MlflowTracker
from triscale.jobs.training.trackers.tensorboard import TensorBoardTracker
from triscale.jobs.training.trackers.tracker import Tracker
from triscale.jobs.training.trackers.wandb import WandbTracker
from triscale.results.history import Epoch
from triscale.results.metrics import AnyMetrics

TRACKERS: dict[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}


def tracker_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of trackers, each once.

    Args:
        names: One name, or several in a list or with commas.

    Raises:
        UserError: There is no such tracker.

    Example:
        >>> tracker_names("mlflow"), tracker_names(["tensorboard,mlflow", "mlflow"])
        (('mlflow',), ('tensorboard', 'mlflow'))
    """
    texts = [names] if isinstance(names, str) else names
    found = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    for name in found:
        if name not in TRACKERS:
            raise UserError(
                f'there is no experiment tracker "{name}"{nearest(name, TRACKERS)}; the trackers are '
                f"{', '.join(TRACKERS)}"
            )
    return tuple(dict.fromkeys(found))


class TrainingLog:
    """The trackers of one training. A tracker that fails is reported once, and not used any more by this process."""

    def __init__(self, names: Sequence[str], note: Callable[[str], None]) -> None:
        self._names, self._note = names, note
        self._trackers: dict[str, Tracker] = {}
        self._started: dict[str, Tracker] = {}

    def load(self) -> None:
        """Import the packages of the trackers.

        Raises:
            UserError: A package is not installed; the message has the command that installs it.
        """
        self._trackers = {name: TRACKERS[name]() for name in self._names}

    def start(self, run: RunFolder, spec: RunSpec) -> None:
        """Start each tracker.

        Raises:
            UserError: A tracker cannot start. A training that has finished an epoch resumes without it instead.
        """
        for name, tracker in self._trackers.items():
            try:
                self._note(f"{name}: {tracker.start(run, spec)}")
            # Trackers use servers, databases and files through packages that may raise anything.
            except Exception as error:
                if not run.history_file.is_file():
                    raise UserError(f"{name} cannot be used: {_reason(error)}; correct it, or leave it out") from error
                self._report(name, error)
            else:
                self._started[name] = tracker

    def write(self, history: tuple[Epoch, ...]) -> None:
        """Record the epochs that are not recorded yet."""
        self._each(lambda tracker: tracker.write(history))

    def finish(self, metrics: AnyMetrics) -> None:
        """Record the results and end."""
        self._each(lambda tracker: tracker.finish(metrics))
        self._started = {}

    @contextmanager
    def stopped_on_error(self) -> Iterator[None]:
        """End the trackers as interrupted or failed if the training ends with an exception."""
        try:
            yield
        except BaseException as error:
            interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
            self._each(lambda tracker: tracker.stop(interrupted=interrupted))
            raise

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in tuple(self._started.items()):
            try:
                call(tracker)
            except Exception as error:  # as in start; whatever it is, the training is worth more than its log
                del self._started[name]
                self._report(name, error)

    def _report(self, name: str, error: Exception) -> None:
        self._note(
            f"{name} failed ({_reason(error)}); the training continues without it; once it works again, the same "
            "command records what is missing"
        )


def _reason(error: Exception) -> str:
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
