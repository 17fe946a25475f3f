"""Find what a user names as a run: its folder, or weights, which become a run in the cache or in a temporary folder."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.deploy.engines import ENGINES, Engine
from triscale.errors import RecordError, UserError, WeightsError
from triscale.jobs.core.run import Request, RunFolder, RunManifest
from triscale.jobs.data.moved_images import reattach_images
from triscale.jobs.deploy.export import Precision
from triscale.jobs.training.initial_weights import read_initial_weights
from triscale.jobs.weights_run import request_of_weights, unknown_facts, write_run_of_weights
from triscale.places import cache_folder
from triscale.training.context import ExecutionContext
from triscale.version import __version__
from triscale.weights import catalog
from triscale.weights.references import REMOTE, looks_like_file

EXPORTED = tuple(suffix for engine in ENGINES.values() for suffix in (engine.suffix, *engine.also_reads))
"""Suffixes of exported files."""


@dataclass(frozen=True, slots=True)
class RunSource:
    """A run to work with.

    Attributes:
        run: The run.
        weights: The name of the weights that it was made of for this job, which names the files that are made of them;
            None for a run of the user, which keeps its results.
        reference: What the user gave.
    """

    run: RunFolder
    weights: str | None
    reference: str

    @contextmanager
    def update(self) -> Iterator[RunFolder]:
        """Provide the run for a job that writes into it.

        A run of the user is locked, see :meth:`RunFolder.update`. Of a run of weights it is a copy, which is removed
        afterwards: what is worth keeping is copied out of it, see :mod:`triscale.jobs.source_jobs`.

        Raises:
            RunError: Another process holds the lock.
        """
        if self.weights is None:
            with self.run.update():
                yield self.run
            return
        with tempfile.TemporaryDirectory(prefix="triscale-") as folder:
            yield RunFolder(Path(shutil.copytree(self.run.folder, Path(folder) / self.weights)))

    def require_images(self, purpose: str, *, or_else: str = "") -> None:
        """Check that weights were given with images.

        Args:
            purpose: What is done with the weights on images, such as ``evaluate``.
            or_else: What to type to do without images.

        Raises:
            WeightsError: There are none.
        """
        if self.weights is not None and not self.run.split.test:
            raise WeightsError(
                f"there are no images to {purpose} {self.reference}; give a folder of class folders, named by its "
                f"classes or by wnids, with --images{', or ' * bool(or_else)}{or_else}"
            )

    def export_file(self, engine: Engine, precision: Precision, out: Path | None) -> Path | None:
        """Return where an exported file is written: as given, or for weights into the current folder by their name.

        Args:
            engine: The engine that will run the file.
            precision: The precision of the file.
            out: The file that the user gave.

        Returns:
            The file; None for the default file in a run of the user.

        Raises:
            UserError: The default file for weights exists.
        """
        if out is not None or self.weights is None:
            return out
        file = Path(f"{self.weights}{'' if precision == 'float32' else f'.{precision}'}{engine.suffix}")
        if file.exists():
            raise UserError(f"{file} exists; give --out {file} to replace it, or another file")
        return file


def is_exported(source: str | Path) -> bool:
    """Return whether a path is named like an exported file.

    Example:
        >>> is_exported("model.onnx"), is_exported("runs/photos")
        (True, False)
    """
    return Path(source).suffix in EXPORTED and not (Path(source) / "run.json").is_file()


@contextmanager
def open_source(
    source: str,
    context: ExecutionContext,
    *,
    images: str | None = None,
    data: DataOptions = DEFAULT_DATA,
    offline: bool = False,
) -> Iterator[RunSource]:
    """Provide the run that a user names.

    A folder of a run is taken as it is. Weights without images become a run in the cache folder, which later calls take
    again; weights with images become one in a temporary folder, since images change.

    Args:
        source: The folder of a run, a file of weights, or the name of published weights.
        context: Progress and stop flag.
        images: For a run, where its images are now, see :func:`triscale.jobs.data.moved_images.reattach_images`; for
            weights, the images to evaluate them on and to calibrate int8 with.
        data: How the images for weights are read.
        offline: Whether to use only the cache for published weights.

    Raises:
        RunError: The folder holds no run, or the images are not those of the run.
        WeightsError: The weights are unknown, have no classifier, or do not have the classes of the images.
        UserError: The source is an exported file.
        DataError: There are no images.
        Interrupted: ``context.should_stop`` returned true.
    """
    path = Path(source)
    if is_exported(source):
        raise UserError(
            f"{source} is an exported file, which can be used by predict, evaluate, measure and serve; give the run "
            "or the weights that it was exported from"
        )
    if path.is_dir():
        run = RunFolder.open(path)
        if images is not None:
            with run.update():
                reattach_images(run, images, context)
        yield RunSource(run, None, source)
        return
    _refuse_unknown(source)
    request = request_of_weights(source, images, data=data, offline=offline)
    if images is None:
        yield RunSource(_cached(request, context), short_name(source), source)
        return
    with tempfile.TemporaryDirectory(prefix="triscale-") as folder:
        run = RunFolder(Path(folder) / short_name(source))
        run.folder.mkdir()
        write_run_of_weights(run, request, context)
        yield RunSource(run, short_name(source), source)


def _refuse_unknown(source: str) -> None:
    """Refuse what is neither a run nor a file nor the name of published weights, before anything is downloaded."""
    path = Path(source)
    if path.exists() or path.with_name(f"{path.name}.index").is_file() or source.startswith(REMOTE):
        return
    if looks_like_file(source):
        raise WeightsError(
            f"there is no run and no file {source}; give the folder of a run, a weights file or a published name, "
            "which triscale weights list shows"
        )
    try:
        catalog.published(source)
    except WeightsError as error:
        raise WeightsError(f"there is no run and no file {source}, and {error}") from error


def short_name(reference: str) -> str:
    """Return the name of weights without folders, suffix or source, for files that are made of them.

    Example:
        >>> short_name("downloads/lite0.safetensors"), short_name("timm/efficientnet_b0.ra_in1k")
        ('lite0', 'efficientnet_b0.ra_in1k')
    """
    is_file = Path(reference).exists() or looks_like_file(reference)
    return Path(reference).stem if is_file else reference.rpartition("/")[2]


def _cached(request: Request, context: ExecutionContext) -> RunFolder:
    """Return the run of weights without images in the cache folder; it is made if it is not there whole."""
    assert request.start is not None
    names = read_initial_weights(request.start)[2]
    key = hashlib.sha256(f"{__version__} {request.digest} {names}".encode()).hexdigest()[:32]
    run = RunFolder(cache_folder() / "runs" / key)
    if _is_whole(run):
        for note in unknown_facts(request.start, names):
            context.progress.note(note)
        return run
    try:
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=run.folder.parent))
    except OSError as error:
        raise WeightsError(
            f"cannot write to {run.folder.parent} ({error.strerror}); name another folder in $TRISCALE_CACHE, or make "
            f"the run yourself: triscale weights run {request.start.run} --out RUN"
        ) from error
    try:
        new = RunFolder(made)
        write_run_of_weights(new, request, context)
        new.commit()
        shutil.rmtree(run.folder, ignore_errors=True)
        with suppress(OSError):  # another process was faster
            made.rename(run.folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return run


def _is_whole(run: RunFolder) -> bool:
    """Return whether a run in the cache has the weights that its manifest lists."""
    try:
        listed = {file.name: file.sha256 for file in RunManifest.load(run.manifest_file).files}
        content = run.weights_file.read_bytes()
    except (RecordError, OSError):
        return False
    return listed.get(run.weights_file.name) == hashlib.sha256(content).hexdigest()
