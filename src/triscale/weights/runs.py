"""The contract of a Run's weights, from what lies beside them; the Run itself is the business of ``jobs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from triscale.errors import RecordError, WeightsError
from triscale.network.contract import Preprocessing
from triscale.network.spec import Network
from triscale.weights.contract import WeightsContract
from triscale.weights.tensors import sha256_of

RUN_FILE, RUN_WEIGHTS, RUN_MANIFEST = "run.json", "model.safetensors", "manifest.json"


def contract_of_run(file: Path) -> WeightsContract:
    """Return the contract of a Run's file of weights.

    Raises:
        WeightsError: the file lies alone, was altered since the run ended, or belongs to a custom model.
        RecordError: what lies beside it cannot be read.
    """
    spec = _json(file.with_name(RUN_FILE))
    if not {"network", "preprocessing", "classes"} <= spec.keys() or "function" in spec["network"]:
        raise WeightsError(f"{file} is not the file of a Run of a Network; its run.json does not say which")
    digest = sha256_of(file)
    manifest = file.with_name(RUN_MANIFEST)
    if manifest.is_file():
        said = [entry["sha256"] for entry in _json(manifest).get("files", []) if entry.get("name") == file.name]
        if said and said[0] != digest:
            raise WeightsError(f"{file} was altered since its Run ended: its SHA-256 is not that of the manifest")
    network = Network.parse(spec["network"], f"the network of {file.with_name(RUN_FILE)}")
    return WeightsContract(
        source="triscale",
        name=file.absolute().parent.name,
        architecture=network.name,
        network=network,
        preprocessing=Preprocessing.parse(spec["preprocessing"], f"the preprocessing of {file.with_name(RUN_FILE)}"),
        classes=tuple(spec["classes"]),
        sha256=digest,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsError(
            f"cannot read {path}: {error.strerror}; weights of a Run need what lies beside them, give its folder"
        ) from error
    except ValueError as error:
        raise RecordError(f"{path} is not JSON ({error})") from error
    return data if isinstance(data, dict) else {}
