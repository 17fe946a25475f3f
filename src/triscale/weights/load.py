"""Load weights by file or name: as tensors with their metadata, or as a module."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from triscale.errors import NetworkError, WeightsError
from triscale.nn.build import build
from triscale.nn.classifier import Classifier
from triscale.places import cache_folder
from triscale.retry import RetryPolicy
from triscale.weights import catalog
from triscale.weights.adapt import adapt, check_finite
from triscale.weights.architecture import Architecture
from triscale.weights.bundle import read_bundle, to_torch
from triscale.weights.contract import WeightsContract
from triscale.weights.fetch import Progress, fetch
from triscale.weights.foreign import detect_format, open_pickle, unpack_checkpoint
from triscale.weights.identify import import_first, other_networks
from triscale.weights.licenses import with_license
from triscale.weights.preprocessing import NOTHING_GIVEN, GivenPreprocessing, with_class_names, with_preprocessing
from triscale.weights.references import REMOTE, looks_like_file
from triscale.weights.rules import HEAD, expected_state, to_triscale
from triscale.weights.runs import RUN_FILE, RUN_WEIGHTS, contract_of_run
from triscale.weights.sources import get_architecture, get_source
from triscale.weights.tensors import read_header, read_tensors, sha256_of, write_tensors
from triscale.weights.unwrap import find_state

KIND_KEY, CONTRACT_KEY = "triscale", "contract"

logger = logging.getLogger("triscale")


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """Weights with the parameter names of ``build(weights.network)``.

    Attributes:
        weights: Their metadata.
        state: All tensors, possibly without the classifier.
        notes: Notes on the choices made when the file was read.
    """

    weights: WeightsContract
    state: dict[str, Tensor]
    notes: tuple[str, ...]

    @property
    def has_head(self) -> bool:
        """Whether the classifier is included."""
        return any(name.startswith(HEAD) for name in self.state)

    def build(self, *, drop_head: bool = False) -> Classifier:
        """Build the module of the weights, in evaluation mode.

        Args:
            drop_head: Whether to leave out the classifier, so that the module returns features.

        Raises:
            WeightsError: The weights have no classifier.
        """
        if not self.has_head and not drop_head:
            raise WeightsError(
                f"{self.weights.title} has no classifier, so it cannot classify; train one with triscale train IMAGES "
                "--weights, or load its features with drop_head=True in Python"
            )
        model = build(self.weights.network)
        if drop_head:
            model.reset_classifier(0)
        model.load_state_dict({name: self.state[name] for name in model.state_dict()})
        return model.eval()


def read_state(reference: str) -> dict[str, Tensor]:
    """Return tensors by the names that a model of this package gives them.

    Args:
        reference: A run's directory, a file with metadata, or a state dict that any other training loop saved, whose
            common prefixes, such as ``module.``, are removed.

    Raises:
        WeightsError: The file cannot be read safely, or holds no state dict.
    """
    path = Path(reference)
    if path.is_file() and not _is_native(path):
        return _read_foreign(path, None)[0]
    return find_weights(reference, offline=True).state


def load_weights(
    file: str | Path,
    *,
    source: str,
    name: str,
    part: str | None = None,
    classes: int | None = None,
    drop_head: bool = False,
) -> Classifier:
    """Load a weights file as a module in evaluation mode.

    The module's ``network`` has the padding and batch norm parameters of the source, so that it computes what the
    source's own module computes. The file may be a checkpoint of most training programs; the logger ``triscale`` gets
    a note for each choice that was made when it was read.

    Args:
        file: Safetensors, a PyTorch state dict, or a TensorFlow checkpoint (.index, its folder, or .tar.gz).
        source: The project whose parameter names the file uses: ``torchvision``, ``timm``, ``lukemelas``, ``google`` or
            ``triscale``.
        name: The source's name of the network, such as ``tf_efficientnet_b0``, or Triscale's name.
        part: The path of the state dict inside the file, or the beginning of its names, if it holds several.
        classes: The number of outputs; by default that of the file.
        drop_head: Whether to leave out the classifier.

    Returns:
        The module: ``[N, 3, H, W]``, normalized as the source does, to logits ``[N, classes]``, or to features
        ``[N, num_features]`` with ``drop_head``.

    Raises:
        WeightsError: The file cannot be read safely, or source or name is unknown.
        NetworkError: The weights have another structure; the message lists the parameters that do not match.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from triscale.weights.export import export_state
        >>> from triscale.weights.sources import network_of
        >>> network = network_of("torchvision", "resnet18").replace(classes=2, resolution=32)
        >>> state = export_state(build(network).state_dict(), network, "torchvision", "resnet18")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(state, Path(folder) / "model.pth")
        ...     model = load_weights(Path(folder) / "model.pth", source="torchvision", name="resnet18", classes=2)
        >>> tuple(model(torch.zeros(1, 3, 64, 64)).shape)
        (1, 2)
    """
    loaded = load_file(Path(file), source=source, name=name, part=part, classes=classes, drop_head=drop_head)
    for note in loaded.notes:
        logger.info("%s: %s", file, note)
    return loaded.build(drop_head=drop_head)


def find_weights(
    text: str,
    *,
    source: str | None = None,
    name: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
    retry: RetryPolicy | None = None,
) -> LoadedWeights:
    """Find weights by any kind of reference: a file, a run directory, a published name, or a URL.

    Published weights are downloaded and imported once; the imported file stays in the cache.

    Args:
        text: A path, a name such as ``timm/tf_efficientnet_b0``, a URL that begins with ``https://``, or a repository
            of the Hugging Face Hub, ``hub:OWNER/NAME``.
        source: The project whose parameter names the file uses; required for URLs and hub repositories.
        name: The source's name of the network; required for URLs and hub repositories.
        offline: Whether to use only the cache.
        progress: Called during a download.
        retry: How often and how long a download is tried; by default as :func:`triscale.weights.fetch.fetch` does.

    Raises:
        WeightsError: The reference is unknown, or the file cannot be downloaded or read.
        NetworkError: The weights do not have the structure of the named network.
    """
    path = Path(text)
    if path.exists() or path.with_name(path.name + ".index").is_file():
        return load_file(path, source=source, name=name)
    if text.startswith(REMOTE):
        return load_file(
            fetch(_contract_at_url(text, source, name), offline=offline, progress=progress), source=source, name=name
        )
    if looks_like_file(text):
        raise WeightsError(
            f'there is no file "{text}"; give the folder of a finished run, a weights file or a published name, which '
            "triscale weights list shows"
        )
    weights = catalog.published(text)
    imported = cache_folder() / "weights" / "imported" / weights.source / f"{weights.name}.safetensors"
    if imported.is_file():
        return load_file(imported)
    original = fetch(weights, offline=offline, progress=progress, retry=retry)
    import_file(original, imported, source=weights.source, name=weights.name)
    return load_file(imported)


def contract_of(text: str) -> WeightsContract:
    """Return the metadata of a file, a run or published weights, without downloading anything.

    Raises:
        WeightsError: See :func:`find_weights`.

    Example:
        >>> contract_of("timm/tf_efficientnet_b0.ns_jft_in1k").license
        'apache-2.0'
    """
    return load_file(Path(text)).weights if Path(text).exists() else catalog.published(text)


def import_file(
    file: Path,
    out: Path,
    *,
    source: str | None = None,
    name: str | None = None,
    part: str | None = None,
    classes: int | None = None,
    drop_head: bool = False,
    given: GivenPreprocessing = NOTHING_GIVEN,
    class_names: Sequence[str] | None = None,
    license: str | None = None,
) -> LoadedWeights:
    """Convert a weights file to safetensors with Triscale's parameter names and the metadata inside.

    Args:
        file: As for :func:`load_weights`.
        out: The file to write, atomically.
        source: The project whose parameter names the file uses; not needed for files written by Triscale.
        name: The source's name of the network or of the published weights.
        part: The path of the state dict inside the file, or the beginning of its names, if it holds several.
        classes: The number of outputs; by default that of the file.
        drop_head: Whether to leave out the classifier.
        given: The preprocessing, for files that are not published ones.
        class_names: The names of the classes, in the order of the outputs, likewise.
        license: The license, as an SPDX identifier, likewise.

    Raises:
        WeightsError: The file cannot be read safely, its SHA-256 is not the published one, source or name is missing,
            or what is given does not fit the weights.
        NetworkError: The weights have another structure; the message lists the parameters that do not match.
    """
    loaded = load_file(file, source=source, name=name, part=part, classes=classes, drop_head=drop_head)
    weights, notes = with_preprocessing(loaded.weights, given)
    if class_names is not None:
        weights = with_class_names(weights, class_names)
    if license is not None:
        weights = with_license(weights, license)
    loaded = replace(loaded, weights=weights, notes=(*loaded.notes, *notes))
    metadata = {KIND_KEY: "weights", CONTRACT_KEY: loaded.weights.to_json()}
    write_tensors(out, loaded.state, metadata)
    return loaded


def load_file(
    file: Path,
    *,
    source: str | None = None,
    name: str | None = None,
    part: str | None = None,
    classes: int | None = None,
    drop_head: bool = False,
) -> LoadedWeights:
    """Return the weights in a file, or those of a run by its folder.

    The arguments are those of :func:`import_file`; a file that carries its contract needs none of them.

    Raises:
        WeightsError: As for :func:`import_file`.
        NetworkError: As for :func:`import_file`.
    """
    if file.is_dir() and (file / RUN_FILE).is_file():
        file = file / RUN_WEIGHTS
    if _is_native(file):
        return _load_native(file, source, name, drop_head)
    if source is None or name is None:
        raise WeightsError(import_first(file, _read_foreign(file, None)[0]))
    if source == "triscale":
        raise WeightsError(f"{file} was not written by Triscale, or has lost its metadata; give the run directory")
    _, tables = get_source(source)
    architecture = get_architecture(source, name)
    weights = _contract(file, source, name, architecture)
    state, notes = _read_foreign(file, part)
    rules = tables.rules[architecture.family]
    try:
        adapted = adapt(state, weights.network, rules, groups=architecture.groups, classes=classes, drop_head=drop_head)
    except (WeightsError, NetworkError) as error:
        raise type(error)(f"{file}: {error}") from error
    if adapted.network != weights.network:
        same_classes = adapted.network.classes == weights.network.classes
        weights = weights.replace(
            network=adapted.network, classes=weights.classes if same_classes else None, accuracy=None
        )
    whose = f"{tables.title}'s {architecture.name}"
    try:
        mapped = to_triscale(
            adapted.state,
            adapted.network,
            rules,
            whose,
            groups=architecture.groups,
            drop_head=not adapted.has_head,
        )
    except NetworkError as error:
        raise NetworkError(f"{file}: {error}{other_networks(state, source, architecture.name)}") from error
    return LoadedWeights(weights, mapped, (*notes, *adapted.notes))


def _is_native(file: Path) -> bool:
    return detect_format(file) == "safetensors" and read_header(file).metadata.get(KIND_KEY) == "weights"


def _read_foreign(file: Path, part: str | None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a foreign file by their names there, and notes on the choices made."""
    match detect_format(file):
        case "safetensors":
            return find_state(read_tensors(file)[0], part)
        case "zip" | "pickle" as kind:
            opened = open_pickle(file, kind, part)
            return opened.tensors, opened.notes
        case "tar":
            with unpack_checkpoint(file) as index:
                try:
                    return to_torch(read_bundle(index))
                except WeightsError as error:
                    raise WeightsError(str(error).replace(str(index), f"{file} ({index.name})")) from error
        case "bundle":
            return to_torch(read_bundle(file))


def _contract(file: Path, source: str, name: str, architecture: Architecture) -> WeightsContract:
    """Return the metadata of a foreign file: the published ones if the name or the SHA-256 identifies it."""
    digest = sha256_of(file) if file.is_file() and file.suffix != ".index" else None
    source_name, _ = get_source(source)
    rows = {row.name: row for row in catalog.table(source_name).rows if row.name.partition(".")[0] == architecture.name}
    if name in rows:
        weights = catalog.published(f"{source}/{name}")
        if digest is not None and weights.sha256 is not None and not digest.startswith(weights.sha256):
            raise WeightsError(
                f"{file} is not {weights.title} as published: its SHA-256 begins with {digest[:8]}, expected "
                f"{weights.sha256[:8]}; it is truncated, altered or another file; download it again, or give only the "
                f"name of the network ({architecture.name}) if the weights are your own"
            )
        return weights.replace(sha256=digest)
    for row in rows.values():
        if digest is not None and row.sha256 is not None and digest.startswith(row.sha256):
            return catalog.published(f"{source}/{row.name}").replace(sha256=digest)
    return WeightsContract(
        source=source_name, name=name, architecture=architecture.name, network=architecture.network, sha256=digest
    )


def _load_native(file: Path, source: str | None, name: str | None, drop_head: bool) -> LoadedWeights:
    """Return weights written by Triscale: imported ones with their metadata, or those of a run."""
    state, metadata = read_tensors(file)
    if CONTRACT_KEY in metadata:
        weights = WeightsContract.from_json(metadata[CONTRACT_KEY], source=f"the contract inside {file}")
    else:
        weights = contract_of_run(file)
    if (source not in (None, "triscale", weights.source)) or (
        name is not None and name.partition(".")[0] not in (weights.architecture, weights.network.name)
    ):
        raise WeightsError(f"{file} holds {weights.title}, not {source}/{name}; leave out source and name")
    expected = expected_state(weights.network)
    without_head = {key: tensor for key, tensor in expected.items() if not key.startswith(HEAD)}
    # Either all tensors of the network, or all but those of the classifier.
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if shapes not in ({key: tuple(tensor.shape) for key, tensor in part.items()} for part in (expected, without_head)):
        raise WeightsError(f"{file} does not hold the tensors of {weights.network.name}, the network in its metadata")
    try:
        check_finite(state)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    loaded = LoadedWeights(weights, {key: tensor.to(expected[key].dtype) for key, tensor in state.items()}, ())
    if drop_head:
        return replace(loaded, state={key: item for key, item in loaded.state.items() if not key.startswith(HEAD)})
    return loaded


def _contract_at_url(text: str, source: str | None, name: str | None) -> WeightsContract:
    """Return the metadata of weights at a URL or in a hub repository."""
    if source is None or name is None:
        raise WeightsError(
            f"{text} does not say which network it belongs to; give source and name, such as source timm and "
            "name tf_efficientnet_b0"
        )
    architecture = get_architecture(source, name)
    on_hub = text.startswith("hub:")
    return WeightsContract(
        source=get_source(source)[0],
        name=f"{architecture.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        architecture=architecture.name,
        network=architecture.network,
        hub=text.removeprefix("hub:") if on_hub else None,
        url=None if on_hub else text,
    )
