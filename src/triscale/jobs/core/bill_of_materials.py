"""The software bill of materials of a run in CycloneDX's format: the environment, and the weights it started from.

The format: https://cyclonedx.org/docs/1.6/json. It has no path, user or host name. The headers of installed packages
are read without the email parser of ``importlib.metadata``, which takes 30 times as long.
"""

from __future__ import annotations

import json
import platform
import re
import uuid
from datetime import UTC, datetime
from importlib import metadata
from typing import Any
from urllib.parse import quote

from triscale.errors import UserError
from triscale.jobs.core.origins import origins_of
from triscale.jobs.core.run import Request, RunFolder
from triscale.network.contract import WeightsOrigin
from triscale.record import write_atomic
from triscale.version import __version__
from triscale.weights.licenses import spdx

SPEC_VERSION = "1.6"
MAX_LICENSE_LETTERS = 100
"""Some packages have the whole text of their license in the field of its name."""
_SHA256_DIGITS = 64
_CLASSIFIER = "License :: "


def write_bill_of_materials(run: RunFolder, request: Request) -> None:
    """Write the bill of materials of a run that begins, for the environment of this process.

    Args:
        run: A new run; one that is resumed keeps its bill, which describes the environment that it began in.
        request: The request of the run, with its weights.
    """
    content = json.dumps(bill_of_materials(origins_of(request)), indent=1) + "\n"
    write_atomic(run.sbom_file, content.encode())


def bill_of_materials(origins: tuple[WeightsOrigin, ...] = ()) -> dict[str, Any]:
    """Return the bill of materials of this process as CycloneDX JSON.

    Args:
        origins: The published or imported weights that a run learns from.

    Example:
        >>> bill = bill_of_materials()
        >>> bill["bomFormat"], bill["specVersion"]
        ('CycloneDX', '1.6')
    """
    components = [_interpreter(), *_packages(), *(_weights(origin) for origin in origins)]
    subject = _package("triscale", __version__, {"License-Expression": "Apache-2.0"}) | {"type": "application"}
    text = json.dumps([subject, components], sort_keys=True)
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        # The same environment has the same number.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}",
        "version": 1,
        "metadata": {"timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "component": subject},
        "components": components,
    }


def _interpreter() -> dict[str, Any]:
    name, version = platform.python_implementation(), platform.python_version()
    return {
        "type": "platform",
        "bom-ref": f"python@{version}",
        "name": name,
        "version": version,
        "licenses": _licenses("Python-2.0" if name == "CPython" else None),
    }


def _packages() -> list[dict[str, Any]]:
    """Return all installed packages but this one, each once, by name."""
    found: dict[str, dict[str, Any]] = {}
    for distribution in metadata.distributions():
        fields = _fields_of(distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "")
        if "Name" not in fields or "Version" not in fields:
            continue  # the remains of an uninstalled package
        name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
        if name != "triscale":
            found.setdefault(name, _package(name, fields["Version"], fields))  # the first one is what is imported
    return [found[name] for name in sorted(found)]


def _fields_of(text: str) -> dict[str, str]:
    """Return the header fields of the metadata of a package; of classifiers, the first license."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.replace("\r\n", "\n").partition("\n\n")[0].splitlines():
        if line[:1].isspace():
            if name == "License":  # its whole text, not its name
                fields.pop(name, None)
            continue
        name, _, value = line.partition(": ")
        if value and (name != "Classifier" or value.startswith(_CLASSIFIER)):
            fields.setdefault(name, value.strip())
    return fields


def _package(name: str, version: str, fields: dict[str, str]) -> dict[str, Any]:
    address = f"pkg:pypi/{name}@{quote(version, safe='.-_~')}"
    found = {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}
    if summary := fields.get("Summary"):
        found["description"] = summary
    classified = fields.get("Classifier", "").rpartition(" :: ")[2]
    named = fields.get("License", "")
    named = named if len(named) <= MAX_LICENSE_LETTERS else ""
    return found | {"licenses": _licenses(fields.get("License-Expression") or named or classified)}


def _weights(origin: WeightsOrigin) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"weights:{origin.weights}",
        "name": origin.weights,
        "licenses": _licenses(origin.license),
    }
    if origin.sha256 is not None and len(origin.sha256) == _SHA256_DIGITS:
        found["hashes"] = [{"alg": "SHA-256", "content": origin.sha256}]
    addresses = [] if origin.url is None else [{"type": "distribution", "url": origin.url}]
    if origin.hub is not None:
        addresses.append({"type": "distribution", "url": f"https://huggingface.co/{origin.hub}"})
    return found | ({"externalReferences": addresses} if addresses else {})


def _licenses(text: str | None) -> list[dict[str, Any]]:
    """Return a license as CycloneDX has it: as an expression if it is one of SPDX, otherwise by its name."""
    if not text or text.lower() in ("unknown", "osi approved"):
        return []
    try:
        return [{"expression": spdx(text)}]
    except UserError:
        return [{"license": {"name": text}}]
