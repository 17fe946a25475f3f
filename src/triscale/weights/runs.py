"""The metadata of a run's weights, from the other files of its directory; runs themselves belong to ``jobs``."""

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
    """Return the metadata of a run's weights file.

    Args:
        file: ``model.safetensors`` in a run directory.

    Raises:
        WeightsError: The other files are missing, the weights were altered after the run ended, or belong to a custom
            model.
        RecordError: The other files cannot be read.
    """
    spec = _json(file.with_name(RUN_FILE))
    if not {"network", "preprocessing", "classes"} <= spec.keys() or "function" in spec["network"]:
        raise WeightsError(f"{file} does not belong to a run of a Network; {RUN_FILE} does not describe one")
    digest = sha256_of(file)
    manifest = file.with_name(RUN_MANIFEST)
    if manifest.is_file():
        recorded = [entry["sha256"] for entry in _json(manifest).get("files", []) if entry.get("name") == file.name]
        if recorded and recorded[0] != digest:
            raise WeightsError(f"{file} was altered after its run ended: its SHA-256 is not the one in the manifest")
    network = Network.parse(spec["network"], f"the network of {file.with_name(RUN_FILE)}")
    return WeightsContract(
        source="triscale",
        name=file.absolute().parent.name,
        architecture=network.name,
        network=network,
        preprocessing=Preprocessing.parse(spec["preprocessing"], f"the preprocessing of {file.with_name(RUN_FILE)}"),
        classes=tuple(spec["classes"]),
        license=_license_of(spec),
        sha256=digest,
    )


def _license_of(spec: dict[str, Any]) -> str | None:
    """Return the license of the weights that a run was trained from; None if it is unknown or there are none."""
    origin = ((spec.get("request") or {}).get("start") or {}).get("origin") or {}
    found = origin.get("license")
    return found if isinstance(found, str) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsError(
            f"cannot read {path}: {error.strerror}; the weights of a run need its other files, give the run directory"
        ) from error
    except ValueError as error:
        raise RecordError(f"{path} is not JSON ({error})") from error
    return data if isinstance(data, dict) else {}
