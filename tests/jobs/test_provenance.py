"""Licenses of weights travel into runs and exported files; a run has a bill of materials of its environment."""

from __future__ import annotations

import json
import platform
import shutil
from importlib import metadata
from pathlib import Path

import onnx
import pytest
import torch
import torchvision

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from triscale.deploy.contract import Contract
from triscale.deploy.engines import get_engine
from triscale.errors import WeightsError
from triscale.jobs.core.bill_of_materials import bill_of_materials
from triscale.jobs.core.origins import origin_of
from triscale.jobs.core.run import InitialWeights, RunFolder
from triscale.network.contract import UNKNOWN_LICENSE, WeightsOrigin
from triscale.weights.catalog import published
from triscale.weights.licenses import with_license
from triscale.weights.load import contract_of
from weights_file import write_weights

DIGEST = "ab" * 32
FEW = {"batch": 8, "min_steps": 1}


@pytest.fixture(scope="module")
def chain(tiny, tmp_path_factory) -> tuple[Path, Path]:
    """A run that was trained from weights with a license, and one that was trained from that run."""
    folder = tmp_path_factory.mktemp("chain")
    images = write_classes(folder / "images", 12)
    weights = write_weights(folder / "w.safetensors", tiny, license="cc-by-nc-4.0", sha256=DIGEST, hub="who/what")
    first = ts.train(images, weights=weights, epochs=1, settings=FEW, out=folder / "first", progress=False)
    second = ts.train(images, weights=first.path, epochs=1, settings=FEW, out=folder / "second", progress=False)
    return first.path, second.path


def test_license_travels_from_weights_into_the_runs_that_learn_from_them(chain):
    for folder in chain:
        origin = RunFolder(folder).spec.request.start.origin
        assert origin == WeightsOrigin(weights="timm/tiny", license="cc-by-nc-4.0", sha256=DIGEST, hub="who/what")
        assert contract_of(str(folder)).license == "cc-by-nc-4.0"


def test_license_travels_into_exported_files(chain):
    file = chain[1] / "model.onnx"
    ts.Run.open(chain[1], progress=False).export(progress=False)
    props = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(props["trained_from"]) == ["timm/tiny"]
    assert json.loads(props["licenses"]) == ["cc-by-nc-4.0"]
    contract = Contract.from_json(get_engine("onnxruntime").open(file, 1).contract_text)
    assert [origin.license for origin in contract.origins] == ["cc-by-nc-4.0"]


def test_file_of_a_network_from_random_weights_names_no_weights(trained_run, tmp_path):
    ts.Run.open(trained_run, progress=False).export(out=tmp_path / "a.onnx", progress=False)
    assert "licenses" not in {entry.key for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    text = get_engine("onnxruntime").open(tmp_path / "a.onnx", 1).contract_text
    assert "origins" not in json.loads(text)


def test_weights_export_keeps_the_license(tmp_path, capsys):
    model = torchvision.models.mnasnet0_5(num_classes=3)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    made = run(capsys, "weights", "import", tmp_path / "a.pth", "--source", "torchvision", "--name", "mnasnet0_5",
               "--classes", 3, "--license", "MIT or apache-2.0", "--out", tmp_path / "a.safetensors")  # fmt: skip
    assert made.code == 0, made
    assert contract_of(str(tmp_path / "a.safetensors")).license == "mit or apache-2.0"
    run(capsys, "weights", "export", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--source", "torchvision",
        "--name", "mnasnet0_5")  # fmt: skip
    header = (tmp_path / "b.safetensors").read_bytes()
    stored = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    assert (stored["trained_from"], stored["license"]) == ("torchvision/mnasnet0_5", "mit or apache-2.0")


def test_unknown_license_is_said_to_be_unknown(tiny, tmp_path, capsys):
    file = write_weights(tmp_path / "w.safetensors", tiny)
    assert UNKNOWN_LICENSE in run(capsys, "weights", "info", file).out
    assert UNKNOWN_LICENSE in run(capsys, "weights", "info", "torchvision/resnet18").out


@pytest.mark.parametrize("text", ["mti", "Apache 2.0", "", "MIT and", "proprietary"])
def test_license_that_is_not_of_spdx_is_refused(text, tmp_path, capsys):
    torch.save(torchvision.models.mnasnet0_5(num_classes=3).state_dict(), tmp_path / "a.pth")
    line = refused(capsys, "weights", "import", tmp_path / "a.pth", "--source", "torchvision", "--name", "mnasnet0_5",
                   "--classes", 3, "--license", text, "--out", tmp_path / "a.safetensors")  # fmt: skip
    assert f'"{text}" is not an SPDX identifier' in line
    assert not (tmp_path / "a.safetensors").exists()


def test_published_license_is_not_replaced_by_another_one():
    weights = published("timm/tf_efficientnet_b0.ns_jft_in1k")
    assert with_license(weights, "Apache-2.0") == weights
    with pytest.raises(WeightsError, match=r"is apache-2\.0 as published, not mit"):
        with_license(weights, "MIT")


def test_run_that_does_not_record_where_its_weights_are_from_is_resumed(chain, tmp_path):
    folder = shutil.copytree(chain[0], tmp_path / "old")
    spec = json.loads((folder / "run.json").read_text())
    del spec["request"]["start"]["origin"]
    (folder / "run.json").write_text(json.dumps(spec))
    request = RunFolder(folder).spec.request
    images, weights = request.images, request.start.run
    again = ts.train(images, weights=weights, epochs=1, settings=FEW, out=folder, progress=False)
    assert again.metrics is not None


def test_earlier_runs_know_the_license_of_published_weights(tiny):
    def start(name: str) -> InitialWeights:
        return InitialWeights(run=name, sha256="0", network=tiny)

    assert origin_of(start("timm/resnet18.a1_in1k")) == published("timm/resnet18.a1_in1k").origin
    assert origin_of(start("/somewhere/w.safetensors")) == WeightsOrigin(weights="w.safetensors")
    assert origin_of(start("/somewhere/run")) is None
    assert origin_of(None) is None


def test_bill_of_materials_has_every_installed_package_with_its_version():
    listed = {one["name"]: one["version"] for one in bill_of_materials()["components"] if one["type"] == "library"}
    for name in ("torch", "numpy", "pillow", "safetensors", "pydantic", "optuna"):
        assert listed[name] == metadata.version(name)
    names = {one.metadata["Name"] for one in metadata.distributions() if one.metadata["Name"]}
    normalized = {name.lower().replace("_", "-").replace(".", "-") for name in names} - {"triscale"}
    assert listed.keys() == normalized


def test_bill_of_materials_has_the_licenses_that_packages_state():
    found = {one["name"]: one["licenses"] for one in bill_of_materials()["components"]}
    for name, licenses in found.items():
        try:
            stated = metadata.metadata(name).get("License-Expression")
        except metadata.PackageNotFoundError:
            continue  # the interpreter
        if stated and licenses and "expression" in licenses[0]:
            assert licenses[0]["expression"].lower() == " ".join(stated.lower().split())


def test_run_has_a_bill_of_materials_with_its_weights(chain):
    for folder in chain:
        bill = json.loads((folder / "sbom.cdx.json").read_text())
        (weights,) = [one for one in bill["components"] if one["type"] == "machine-learning-model"]
        assert weights["name"] == "timm/tiny"
        assert weights["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
        assert weights["licenses"] == [{"expression": "CC-BY-NC-4.0"}]
        listed = json.loads((folder / "manifest.json").read_text())["files"]
        assert "sbom.cdx.json" in {entry["name"] for entry in listed}


def test_bill_of_materials_names_neither_user_nor_folder(chain):
    text = (chain[1] / "sbom.cdx.json").read_text()
    for private in (str(Path.home()), str(chain[0].parent), platform.node()):
        assert private not in text


def test_bill_of_materials_is_valid_cyclonedx(chain):
    schema = pytest.importorskip("cyclonedx.schema", reason="cyclonedx-python-lib is not installed")
    validation = pytest.importorskip("cyclonedx.validation.json", reason="its extra json-validation is not installed")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str((chain[1] / "sbom.cdx.json").read_text()) is None
    # SHA-256 of which only the first digits are published, a license that is none of SPDX, and an unknown one.
    odd = [published("torchvision/resnet18").origin, WeightsOrigin(weights="a", license="seer-license")]
    assert validator.validate_str(json.dumps(bill_of_materials(tuple(odd)))) is None
    broken = bill_of_materials()
    broken["components"][0]["type"] = "networks"
    assert validator.validate_str(json.dumps(broken)) is not None


def test_same_environment_gives_the_same_serial_number():
    one, other = bill_of_materials(), bill_of_materials((WeightsOrigin(weights="a"),))
    assert bill_of_materials()["serialNumber"] == one["serialNumber"] != other["serialNumber"]
