"""Make the candidate files of a deployment: first float files, then int8 where it can still win.

Quantizing within a bound takes minutes, and most int8 files lose to another candidate by speed alone. A file's speed
depends neither on its calibration nor on its accuracy. So each engine first writes a draft that is calibrated with
noise, and only drafts that are faster than the best file so far are quantized in earnest, the fastest first.
An engine whose float file is so slow that int8 cannot make up for it writes not even a draft.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.engines import DEPLOYED, ENGINES, PRECISIONS, Engine, Precision, file_name
from triscale.deploy.engines.session import Session
from triscale.deploy.quantize import get_quantizer
from triscale.errors import ExportError, Interrupted, JobError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.deadline import Deadline
from triscale.jobs.deploy.eval_cache import QuantizationEvalCache
from triscale.jobs.deploy.export import export_for
from triscale.jobs.deploy.quantize import slow_blocks
from triscale.measurement.latency import pinned_to_cores, torch_threads
from triscale.measurement.versus import ROUND_SECONDS, ROUNDS, time_alternately
from triscale.results.deployment import CandidateLoss, DeploymentCandidate, Exported, Quantized
from triscale.results.metrics import load_metrics
from triscale.scaling.budget import Budget
from triscale.training.context import ExecutionContext

TIED_RATIO = 1.03
"""Latencies within this ratio are tied; the more accurate file is chosen."""
MAX_INT8_SPEEDUP = 4.0
"""int8 moves a quarter of the bytes of float32, and its vector instructions hold four times the values."""
GAIN_MARGIN = 1.5
"""How much more int8 may gain in an engine than in those that were tried."""
DRAFT_IMAGES = 8
"""Images of noise that calibrate a draft, of which only the speed matters."""
DRAFT_ROUNDS, DRAFT_SECONDS = 7, 0.05
TIMING_SECONDS = (ROUNDS + 1) * ROUND_SECONDS
"""Duration of the final measurement of one candidate."""


@dataclass(frozen=True, slots=True)
class CandidateFile:
    """A candidate with its file; ``engine`` and ``file`` are None if no file could be made."""

    candidate: DeploymentCandidate
    engine: Engine | None = None
    file: Path | None = None
    precision: Precision = "float32"
    quantized: Quantized | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateOptions:
    """What candidates are made within.

    Attributes:
        precisions: Precisions to try.
        bound: Maximum loss of accuracy in percentage points.
        budget: Limits on latency and file size.
        threads: Threads of each engine.
        deadline: The end of the time for all of it.
    """

    precisions: Sequence[Precision] = DEPLOYED
    bound: float
    budget: Budget | None
    threads: int
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class _Draft:
    """An int8 file of an engine of which only the speed is known.

    Attributes:
        engine: The engine.
        milliseconds: Its latency.
        slow: Blocks that int8 does not make faster.
        seconds: How long its file took to write.
    """

    engine: Engine
    milliseconds: float
    slow: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class CandidateMaker:
    """Makes the candidates of a run one after another, and remembers the fastest that meets the budget."""

    run: RunFolder
    context: ExecutionContext
    folder: Path
    eval_cache: QuantizationEvalCache
    options: CandidateOptions
    files: list[CandidateFile] = field(default_factory=list)
    timed: list[tuple[CandidateFile, float]] = field(default_factory=list)
    """Files with short measurements in milliseconds, of which only large differences matter."""
    gain: float = MAX_INT8_SPEEDUP
    """What int8 may gain in an engine that was not tried yet."""

    def make(self) -> list[CandidateFile]:
        """Return all candidates; failures and what was not tried are recorded as verdicts.

        Raises:
            Interrupted: ``context.should_stop`` returned true.
        """
        engines = [engine for engine in ENGINES.values() if engine.runs_here()]
        for group in ([one for one in engines if not one.is_slow], [one for one in engines if one.is_slow]):
            for precision in PRECISIONS:
                if precision in self.options.precisions and precision != "int8":
                    for engine in group:
                        if precision in engine.precisions:
                            self._make(engine, precision)
            if "int8" in self.options.precisions:
                self._make_int8([engine for engine in group if engine.makes_int8])
        return self.files

    def _make_int8(self, engines: Sequence[Engine]) -> None:
        """Quantize for the engines whose int8 files can still be the fastest.

        A draft takes seconds in one engine and minutes in another. So an engine is drafted only if int8 can make up for
        the time of its float file, by what it gains in the engines drafted before it.
        """
        self._compare_float_files()
        waiting = sorted(engines, key=self._float_time)
        drafts: list[_Draft] = []
        while waiting or drafts:
            made = self._best_time()
            times = [draft.milliseconds for draft in drafts] + ([] if made is None else [made])
            best = min(times, default=math.inf)
            drafted = next((engine for engine in waiting if self._float_time(engine) <= self.gain * best), None)
            if drafted is not None:
                waiting.remove(drafted)
                draft = None if self._is_out_of_time(drafted, "int8") else self._draft(drafted)
                if draft is not None:
                    drafts.append(draft)
                    measured = max(self._float_time(one.engine) / one.milliseconds for one in drafts)
                    self.gain = min(MAX_INT8_SPEEDUP, GAIN_MARGIN * max(1.0, measured))
            elif drafts:
                draft = min(drafts, key=lambda one: one.milliseconds)
                drafts.remove(draft)
                self._quantize(draft, made)
            else:
                for engine in waiting:
                    self._refuse(
                        engine,
                        f"not tried: its float32 file takes {self._float_time(engine) / best:.1f} times as long as the "
                        f"fastest file, and int8 can hardly gain {self.gain:.1f} times, by other engines",
                    )
                break

    def _quantize(self, draft: _Draft, best: float | None) -> None:
        """Quantize for an engine unless its draft is slower than the fastest file within the budget."""
        if best is not None and draft.milliseconds > TIED_RATIO * best:
            self._refuse(
                draft.engine,
                f"not tried: with all blocks in int8 it takes {draft.milliseconds / best:.2f} times as long as the "
                "fastest file",
            )
        elif not self._is_out_of_time(draft.engine, "int8", draft.seconds):
            self._make(draft.engine, "int8", draft.slow)
            if self.files[-1].file is not None:
                self.timed.append((self.files[-1], self._time(self.files[-1])))

    def _float_time(self, engine: Engine) -> float:
        """Return the latency of an engine's float32 file; 0 if it is not known."""
        times = (
            milliseconds for one, milliseconds in self.timed if one.engine is engine and one.precision == "float32"
        )
        return min(times, default=0.0)

    def _make(self, engine: Engine, precision: Precision, slow: Sequence[str] | None = None) -> None:
        """Add the file of an engine in a precision, or a verdict why there is none."""
        options, file = self.options, self.folder / file_name(engine, precision)
        with self._verdicts(engine, precision):
            # An engine that is not installed fails already when it is asked what stands in its way.
            if obstacle := engine.obstacle(precision):
                self._refuse(engine, obstacle, precision)
                return
            if self._is_out_of_time(engine, precision):
                return
            exported = export_for(
                self.run, self.context, engine, precision, file, bound=options.bound, eval_cache=self.eval_cache,
                timed=False, slow=slow,
            )  # fmt: skip
            candidate = DeploymentCandidate(engine=engine.title, precision=precision)
            candidate = candidate.replace(**size_and_accuracy(self.run, exported))
            self.files.append(CandidateFile(candidate, engine, file, precision, exported.quantized))

    def _draft(self, engine: Engine) -> _Draft | None:
        """Return a draft of an engine's int8 file; None, with a verdict, if it cannot be made."""
        with self._verdicts(engine, "int8"):
            self.eval_cache.check_calibration()
            self.eval_cache.check_test()
            self.context.progress.begin(f"draft for {engine.title}, int8")
            shape = self.run.spec.preprocessing.input_shape
            noise = np.random.default_rng(1).standard_normal((DRAFT_IMAGES, *shape), dtype=np.float32)
            quantizer = get_quantizer(engine)(self.eval_cache.subject, noise)
            slow = slow_blocks(quantizer, engine, self.eval_cache.subject.input_shape)
            file = self.folder / "drafts" / file_name(engine, "int8")
            file.parent.mkdir(exist_ok=True)
            started = time.monotonic()
            quantizer.write(slow, file)
            seconds = time.monotonic() - started
            candidate = DeploymentCandidate(engine=engine.title, precision="int8")
            milliseconds = self._time(CandidateFile(candidate, engine, file, "int8"))
            return _Draft(engine, milliseconds, slow, seconds)
        return None

    @contextmanager
    def _verdicts(self, engine: Engine, precision: Precision) -> Iterator[None]:
        """Turn a failure into a verdict.

        Raises:
            Interrupted: The user has stopped the job.
        """
        try:
            yield
        except Interrupted:
            if self.context.should_stop():
                raise
            self._refuse(engine, f"not finished within {self.options.deadline}", precision)
        except (JobError, ExportError, UserError) as error:
            self._refuse(engine, str(error), precision)

    def _refuse(self, engine: Engine, verdict: str, precision: Precision = "int8") -> None:
        candidate = DeploymentCandidate(engine=engine.title, precision=precision, verdict=verdict)
        self.files.append(CandidateFile(candidate))
        self.context.progress.note(f"{engine.title}, {precision}: {verdict}")

    def _is_out_of_time(self, engine: Engine, precision: Precision, needed: float = 0.0) -> bool:
        """Return whether there is a file, and no time for another; then a verdict says so.

        Raises:
            Interrupted: The user has stopped the job.
        """
        if self.context.should_stop():
            raise Interrupted("stopped; nothing was deployed; run the same command again to restart")
        made = [one for one in self.files if one.file is not None]
        if not made or not self.options.deadline.passed(needed + reserve(len(made))):
            return False
        self._refuse(engine, f"not tried within {self.options.deadline}", precision)
        return True

    def _compare_float_files(self) -> None:
        """Time the float files briefly that have not been timed."""
        timed = [one for one, _ in self.timed]
        running = [one for one in self.files if one.file is not None and one not in timed]
        if running:
            self.context.progress.begin("compare float files")
            for one in running:
                self.timed.append((one, self._time(one)))

    def _best_time(self) -> float | None:
        """Return the latency of the fastest file within the budget; None if there is none."""
        budget = self.options.budget
        feasible = [
            milliseconds
            for one, milliseconds in self.timed
            if not exceeded(one.candidate.replace(milliseconds=milliseconds), budget)
        ]
        return min(feasible, default=None)

    def _time(self, file: CandidateFile) -> float:
        """Return the latency of a file, measured alternately with the fastest one so that drift cancels."""
        if not self.timed:
            return float(np.median(self._alternate([file])))
        fastest, milliseconds = min(self.timed, key=lambda one: one[1])
        times = self._alternate([fastest, file])
        return milliseconds * float(np.median(times[:, 1] / times[:, 0]))

    def _alternate(self, files: Sequence[CandidateFile]) -> NDArray[np.float64]:
        image = noise_image(self.run)
        threads = self.options.threads
        with pinned_to_cores(threads), torch_threads(threads):
            calls = [partial(open_candidate(one, threads), image) for one in files]
            return time_alternately(calls, DRAFT_ROUNDS, DRAFT_SECONDS)[0]


def open_candidate(one: CandidateFile, threads: int) -> Session:
    """Open the file of a candidate in its engine and precision."""
    assert one.engine is not None
    assert one.file is not None
    return one.engine.open(one.file, threads, one.precision)


def noise_image(run: RunFolder) -> NDArray[np.float32]:
    """Return one image of noise ``[1, C, H, W]``: content does not affect latency."""
    shape = run.spec.preprocessing.input_shape
    return np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)


def reserve(made: int) -> float:
    """Return the seconds that the final measurement takes with one more file, and with torch."""
    return (made + 2) * TIMING_SECONDS


def size_and_accuracy(run: RunFolder, exported: Exported) -> dict[str, object]:
    """Return the fields of a candidate that its export gives."""
    result = exported.quantized
    if result is None:
        return {"size_bytes": exported.export.size_bytes, "accuracy": test_accuracy(run)}
    loss = CandidateLoss(
        chosen_points=result.choice.lost_points, points=result.lost_points, low=result.lost_low, high=result.lost_high
    )
    return {"size_bytes": exported.export.size_bytes, "accuracy": result.accuracy, "loss": loss}


def test_accuracy(run: RunFolder) -> float | None:
    """Return the score of a run on its test images; None if it has not been evaluated."""
    return load_metrics(run.metrics_file).score if run.metrics_file.is_file() else None


def exceeded(candidate: DeploymentCandidate, budget: Budget | None) -> str:
    """Return the limit that a file exceeds; empty if it meets the budget."""
    if budget is None:
        return ""
    milliseconds, size = candidate.milliseconds, candidate.size_bytes
    if budget.latency is not None and milliseconds is not None and milliseconds > budget.latency:
        return f"slower than {budget.latency:g} ms"
    if budget.size is not None and size is not None and size > budget.size:
        return "larger than the budget"
    return ""
