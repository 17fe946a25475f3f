"""From a file or a name to tensors under our names with their contract, and to a module."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from triscale.errors import WeightsError
from triscale.network.spec import Network
from triscale.nn.build import Classifier, build
from triscale.places import cache_folder
from triscale.weights import catalog
from triscale.weights.architecture import Architecture
from triscale.weights.bundle import read_bundle, to_torch
from triscale.weights.contract import WeightsContract, check_fits
from triscale.weights.fetch import Progress, fetch
from triscale.weights.foreign import kind_of, open_pickle, unpacked_checkpoint
from triscale.weights.rules import HEAD, expected_state, to_ours
from triscale.weights.runs import RUN_FILE, RUN_WEIGHTS, contract_of_run
from triscale.weights.sources import SOURCES, architecture_named, source_named
from triscale.weights.tensors import read_header, read_tensors, sha256_of, write_tensors
from triscale.weights.unwrap import strip_prefixes

KIND_KEY, CONTRACT_KEY = "triscale", "contract"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Weights under the names of ``build(weights.network)``.

    Attributes:
        weights: their contract.
        state: all tensors, or all but the classifier's where it was left out.
        notes: what was taken from the file, in sentences.
    """

    weights: WeightsContract
    state: dict[str, Tensor]
    notes: tuple[str, ...]

    @property
    def has_head(self) -> bool:
        """Whether the classifier is there."""
        return any(name.startswith(HEAD) for name in self.state)

    def build(self) -> Classifier:
        """Return the module that the weights belong to, in evaluation mode.

        Raises:
            WeightsError: the classifier was left out.
        """
        if not self.has_head:
            raise WeightsError(f"{self.weights.title} was imported without its classifier; it can only be adapted")
        model = build(self.weights.network)
        model.load_state_dict(self.state)
        return model.eval()

    def state_for(self, network: Network, *, drop_head: bool = False) -> dict[str, Tensor]:
        """Return the tensors for another Network that computes the same, with or without the classifier.

        Raises:
            WeightsError: the Network differs; the message names each field.
        """
        drop_head = drop_head or not self.has_head
        check_fits(self.weights, network, drop_head=drop_head)
        return {name: tensor for name, tensor in self.state.items() if not (drop_head and name.startswith(HEAD))}


def load_weights(
    file: str | Path, *, source: str, name: str, part: str | None = None, classes: int | None = None
) -> Classifier:
    """Return the module that a file of weights belongs to, in evaluation mode, its preprocessing unchanged.

    The module's ``network`` is what the weights need: padding and batch norm of their source.

    Args:
        file: safetensors, a PyTorch state dict, or a TensorFlow checkpoint (.index, its folder, or .tar.gz).
        source: whose names it uses: ``torchvision``, ``timm``, ``lukemelas``, ``google`` or ``triscale``.
        name: what the source calls the network, such as ``tf_efficientnet_b0``, or our name of it.
        part: the path of the state dict inside the file, where it holds several.
        classes: the number of outputs, where it is not the published one.

    Raises:
        WeightsError: the file cannot be read safely, or source and name are not known.
        NetworkError: the weights are of another structure; the message lists what is left on either side.
    """
    return load_file(Path(file), source=source, name=name, part=part, classes=classes).build()


def find_weights(
    text: str,
    *,
    source: str | None = None,
    name: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Loaded:
    """Return the weights that a person means: a file, a folder with a Run, a published name, or where they are.

    Published weights are fetched and imported once; the imported file stays in the cache. An address that begins with
    ``https://`` and a repository of the Hugging Face hub, ``hub:OWNER/NAME``, need ``source`` and ``name``.

    Raises:
        WeightsError: none of these, or the file cannot be had or read.
        NetworkError: the weights are of another structure than their name says.
    """
    path = Path(text)
    if path.exists() or path.with_name(path.name + ".index").is_file():
        return load_file(path, source=source, name=name)
    if text.startswith(("https://", "http://", "hub:")):
        return load_file(
            fetch(_addressed(text, source, name), offline=offline, progress=progress), source=source, name=name
        )
    if _looks_like_file(text):
        raise WeightsError(f'there is no file "{text}"')
    weights = catalog.published(text)
    imported = cache_folder() / "weights" / "imported" / weights.source / f"{weights.name}.safetensors"
    if imported.is_file():
        return load_file(imported)
    import_file(fetch(weights, offline=offline, progress=progress), imported, source=weights.source, name=weights.name)
    return load_file(imported)


def contract_of(text: str) -> WeightsContract:
    """Return the contract of a file, a Run or published weights, which are not fetched for it.

    Raises:
        WeightsError: as :func:`find_weights`.
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
) -> Loaded:
    """Convert a file of weights to safetensors under our names, with its contract inside.

    Args:
        file: as for :func:`load_weights`.
        out: the file to write; it is whole or absent.
        source: whose names the file uses; not needed for files of our own.
        name: what the source calls the network or the published weights.
        part: the path of the state dict inside the file.
        classes: the number of outputs, where it is not the published one.
        drop_head: leave the classifier out.

    Raises:
        WeightsError: the file cannot be read safely, does not have the published SHA-256, or source or name is missing.
        NetworkError: the weights are of another structure; the message lists what is left on either side.
    """
    loaded = load_file(file, source=source, name=name, part=part, classes=classes, drop_head=drop_head)
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
) -> Loaded:
    """Return the weights in a file, or those of a Run by its folder.

    The arguments are those of :func:`import_file`; a file that carries its contract needs none of them.

    Raises:
        WeightsError: as :func:`import_file`.
        NetworkError: as :func:`import_file`.
    """
    if file.is_dir() and (file / RUN_FILE).is_file():
        file = file / RUN_WEIGHTS
    if kind_of(file) == "safetensors" and read_header(file).metadata.get(KIND_KEY) == "weights":
        return _own(file, source, name, drop_head)
    if source is None or name is None:
        raise WeightsError(
            f"{file} carries no contract: say whose names it uses and which network it is, such as source timm and "
            f"name tf_efficientnet_b0; the sources are {', '.join(SOURCES)}"
        )
    if source == "triscale":
        raise WeightsError(f"{file} was not written by Triscale, or has lost its metadata; give the folder of the Run")
    _, found = source_named(source)
    architecture = architecture_named(source, name)
    weights = _contract(file, source, name, architecture)
    state, notes = _their_state(file, part)
    network = weights.network if classes is None else weights.network.replace(classes=classes)
    if network.classes != weights.network.classes:
        weights = weights.replace(network=network, classes=None, accuracy=None)
    mapped = to_ours(
        state, network, found.rules[architecture.family], f"{found.title}'s {architecture.name}", drop_head=drop_head
    )
    return Loaded(weights, mapped, notes)


def _their_state(file: Path, part: str | None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a foreign file by their names there, and what was taken."""
    match kind_of(file):
        case "safetensors":
            return strip_prefixes(read_tensors(file)[0])
        case "zip" | "pickle" as kind:
            opened = open_pickle(file, kind, part)
            return opened.tensors, opened.notes
        case "tar":
            with unpacked_checkpoint(file) as index:
                try:
                    return to_torch(read_bundle(index))
                except WeightsError as error:
                    raise WeightsError(str(error).replace(str(index), f"{file} ({index.name})")) from error
        case "bundle":
            return to_torch(read_bundle(file))


def _contract(file: Path, source: str, name: str, architecture: Architecture) -> WeightsContract:
    """Return the contract of a foreign file: the published one where the name or the SHA-256 tells it."""
    digest = sha256_of(file) if file.is_file() and file.suffix != ".index" else None
    known, _ = source_named(source)
    rows = {row.name: row for row in catalog.table(known).rows if row.name.partition(".")[0] == architecture.name}
    if name in rows:
        weights = catalog.published(f"{source}/{name}")
        if digest is not None and weights.sha256 is not None and not digest.startswith(weights.sha256):
            raise WeightsError(
                f"{file} is not {weights.title} as published: its SHA-256 begins with {digest[:8]}, expected "
                f"{weights.sha256[:8]}; it is cut off, altered or another file; fetch it again, or give only the name "
                f"of the network ({architecture.name}) if the weights are your own"
            )
        return weights.replace(sha256=digest)
    for row in rows.values():
        if digest is not None and row.sha256 is not None and digest.startswith(row.sha256):
            return catalog.published(f"{source}/{row.name}").replace(sha256=digest)
    return WeightsContract(
        source=known, name=name, architecture=architecture.name, network=architecture.network, sha256=digest
    )


def _own(file: Path, source: str | None, name: str | None, drop_head: bool) -> Loaded:
    """Return weights that Triscale wrote: imported ones with their contract, or those of a Run."""
    state, metadata = read_tensors(file)
    if CONTRACT_KEY in metadata:
        weights = WeightsContract.from_json(metadata[CONTRACT_KEY], source=f"the contract inside {file}")
    else:
        weights = contract_of_run(file)
    if (source not in (None, "triscale", weights.source)) or (
        name is not None and name.partition(".")[0] not in (weights.architecture, weights.network.name)
    ):
        raise WeightsError(f"{file} holds {weights.title}, and {source}/{name} was asked for")
    expected = expected_state(weights.network)
    kept = {key: tensor for key, tensor in expected.items() if not key.startswith(HEAD)}
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if shapes not in ({key: tuple(tensor.shape) for key, tensor in part.items()} for part in (expected, kept)):
        raise WeightsError(f"{file} does not hold the tensors of {weights.network.name}, which its contract names")
    loaded = Loaded(weights, {key: tensor.to(expected[key].dtype) for key, tensor in state.items()}, ())
    if drop_head:
        return replace(loaded, state={key: item for key, item in loaded.state.items() if not key.startswith(HEAD)})
    return loaded


def _addressed(text: str, source: str | None, name: str | None) -> WeightsContract:
    """Return what is known of weights at an address: whose they are, and where."""
    if source is None or name is None:
        raise WeightsError(
            f"{text} carries no contract: say whose names it uses and which network it is, such as source timm and "
            "name tf_efficientnet_b0"
        )
    architecture = architecture_named(source, name)
    on_hub = text.startswith("hub:")
    return WeightsContract(
        source=source_named(source)[0],
        name=f"{architecture.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        architecture=architecture.name,
        network=architecture.network,
        hub=text.removeprefix("hub:") if on_hub else None,
        address=None if on_hub else text,
    )


def _looks_like_file(text: str) -> bool:
    return Path(text).suffix in (".pth", ".pt", ".bin", ".safetensors", ".index", ".tar", ".gz") or text.startswith(
        (".", "/", "~")
    )
