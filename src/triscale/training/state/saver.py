"""Asynchronous checkpointing: tensors are copied at once and written by a thread; a full disk is retried."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from triscale.errors import JobError
from triscale.training.state.checkpoint import Checkpoints, Manifest, Stored

RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 3600.0
"""Maximum time to wait for disk space at the end of a training."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

MakeManifest = Callable[[Stored, Stored | None], Manifest]
"""Builds the manifest from the files of the state and of the kept epoch."""

_NOT_WRITTEN = Stored(name="", sha256="")


@dataclass(frozen=True, slots=True)
class Tensors:
    """The named tensors of a state after a step."""

    step: int
    values: dict[str, Tensor]

    def copied(self) -> Tensors:
        """Return copies on the CPU, which later steps do not change."""
        return Tensors(self.step, {name: value.detach().to("cpu", copy=True) for name, value in self.values.items()})


class Saver:
    """Writes checkpoints in the background, one at a time.

    If a checkpoint cannot be written, training continues: the last written checkpoint stays, and the next one is tried.

    Args:
        checkpoints: Where to write.
        on_message: Called with a sentence when a checkpoint could not be written.
        writes: False for processes other than rank 0, which only build manifests.
    """

    def __init__(self, checkpoints: Checkpoints, on_message: Callable[[str], None], *, writes: bool = True) -> None:
        self._checkpoints, self._on_message, self._writes = checkpoints, on_message, writes
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._pending: Future[Manifest] | None = None
        self._best: Stored | None = None
        self._best_tensors: Tensors | None = None
        self._written: Manifest | None = None

    def begin(self, written: Manifest | None) -> None:
        """Continue from the checkpoint of a manifest."""
        self._written = written
        self._best = written.best_file if written else None
        self._best_tensors = None

    def keep_best(self, tensors: Tensors) -> None:
        """Store these tensors as the kept epoch's in the following checkpoints."""
        if self._writes:
            self._best_tensors = tensors.copied()

    def save(self, tensors: Tensors, manifest: MakeManifest) -> None:
        """Write a checkpoint in the background, after the previous one is written."""
        self.settle()
        if self._writes:
            # Copied in this thread: the next step overwrites the tensors while the other thread writes.
            self._pending = self._pool.submit(self._write, tensors.copied(), self._best_tensors, manifest)

    def save_now(
        self,
        tensors: Tensors,
        manifest: MakeManifest,
        should_stop: Callable[[], bool],
        *,
        wait: bool,
    ) -> Manifest:
        """Write a checkpoint in the foreground and return its manifest.

        Args:
            tensors: The tensors of the state.
            manifest: Builds the manifest from the files.
            should_stop: Polled while waiting; true gives up.
            wait: Whether to retry while the disk is full.

        Returns:
            The manifest. That of a process that does not write names no files.

        Raises:
            JobError: The disk is full, and ``wait`` is false, ``should_stop`` returned true, or it took too long.
        """
        if not self._writes:
            return manifest(_NOT_WRITTEN, None)
        self.settle()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._written = self._write(tensors, self._best_tensors, manifest)
                return self._written
            except OSError as error:
                sentence = self._sentence(error)
                if error.errno not in _NO_ROOM or not wait or should_stop() or time.monotonic() > deadline:
                    raise JobError(sentence) from error
                self._on_message(f"{sentence}; trying again every {RETRY_SECONDS:g} s")
            time.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Wait for the pending checkpoint and end the thread."""
        self.settle()
        self._pool.shutdown()

    def settle(self) -> None:
        """Wait for the pending checkpoint; a failure is reported through ``on_message``."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            self._written = pending.result()
        except OSError as error:
            self._on_message(f"{self._sentence(error)}; training continues")

    def _write(self, tensors: Tensors, best: Tensors | None, manifest: MakeManifest) -> Manifest:
        checkpoints = self._checkpoints
        if best is not None:
            self._best = checkpoints.store(f"best-{best.step:09d}.safetensors", best.values)
            if self._best_tensors is best:  # unless a better epoch has been stored meanwhile
                self._best_tensors = None
        state = checkpoints.store(f"state-{tensors.step:09d}.safetensors", tensors.values)
        written = manifest(state, self._best)
        checkpoints.commit(written)
        return written

    def _sentence(self, error: OSError) -> str:
        last = f"the last good one is from step {self._written.step}" if self._written else "there is no earlier one"
        return (
            f"a checkpoint cannot be written to {self._checkpoints.folder} ({error.strerror}); {last}; free some space "
            "there"
        )
