"""Weights from files: which formats are recognized, what is refused, and that nothing is half-loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from triscale.errors import NetworkError, RecordError, UserError, WeightsError
from triscale.network.contract import Preprocessing
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.weights import catalog
from triscale.weights.contract import WeightsContract, check_fits
from triscale.weights.load import find_weights, import_file, load_file, load_weights
from triscale.weights.tensors import sha256_of
from triscale.weights.unwrap import find_state


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(3)
    return torchvision.models.resnet18().eval()


@pytest.fixture
def state(theirs: nn.Module) -> dict[str, Tensor]:
    return dict(theirs.state_dict())


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def same(model: nn.Module, theirs: nn.Module) -> bool:
    return torch.allclose(model(IMAGES), theirs(IMAGES), rtol=1e-5, atol=1e-5)


def test_torch_save_file_becomes_module(tmp_path: Path, theirs: nn.Module):
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    model = load_weights(tmp_path / "a.pth", source="torchvision", name="resnet18")
    assert not model.training
    assert same(model, theirs)


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda state: {f"module.{name}": value for name, value in state.items()}, 'the prefix "module."'),
        (lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}}, 'taken from "state_dict"'),
        (lambda state: {"model": {"module": state}}, 'taken from "model.module"'),
        (
            lambda state: {
                "state_dict": {name: value + 1 for name, value in state.items()},
                "state_dict_ema": {f"module.{name}": value for name, value in state.items()},
            },
            'used the moving average in "state_dict_ema" instead of "state_dict"',
        ),
        (
            lambda state: {
                "model": {name: value + 1 for name, value in state.items()},
                "model_ema": {"n_averaged": torch.tensor(9)}
                | {f"module.{name}": value for name, value in state.items()},
            },
            'used the moving average in "model_ema" instead of "model"',
        ),
    ],
)
def test_checkpoint_wrappers_are_removed_and_reported(state, wrap, note):
    result, notes = find_state(wrap(state))
    assert any(note in line for line in notes)
    assert result.keys() == state.keys()
    assert all(result[name] is tensor for name, tensor in state.items())


def test_nested_ema_weights_are_used(tmp_path, theirs, state):
    late = {name: value + 1 for name, value in state.items()}
    averaged = {f"module.{name}": value for name, value in state.items()}
    torch.save({"model": late, "model_ema": averaged, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "a.pth")
    loaded = load_file(tmp_path / "a.pth", source="torchvision", name="resnet18")
    assert loaded.notes == (
        'used the moving average in "model_ema" instead of "model"',
        'removed the prefix "module." from all names',
    )
    assert same(loaded.build(), theirs)


def test_legacy_file_and_safetensors_are_read(tmp_path, theirs, state):
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(load_weights(tmp_path / "old.pth", source="timm", name="resnet18"), theirs)
    safetensors.torch.save_file({f"module.{name}": value for name, value in state.items()}, tmp_path / "a.safetensors")
    assert same(load_weights(tmp_path / "a.safetensors", source="timm", name="resnet18"), theirs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"generator": {"a": torch.zeros(1)}, "critic": {"b": torch.zeros(1)}},
            "under unknown names.*generator",
        ),
        ({"model": {"a": torch.zeros(1)}, "net": {"b": torch.zeros(1)}}, "several state dicts.*model, net.*name one"),
        ({"epoch": 3, "loss": 0.5}, "holds no state dict; its entries are: epoch, loss"),
        ({"a": torch.zeros(1), "epoch": 3}, "mixes tensors with other values.*epoch"),
        ([torch.zeros(1)], "holds a list; expected a state dict"),
    ],
)
def test_ambiguous_checkpoint_is_rejected(content, message):
    with pytest.raises(WeightsError, match=message):
        find_state(content)


def test_checkpoint_part_can_be_selected(tmp_path, theirs, state):
    torch.save({"teacher": {"net": state}, "student": {"net": {"a": torch.zeros(1)}}}, tmp_path / "a.pth")
    loaded = load_file(tmp_path / "a.pth", source="torchvision", name="resnet18", part="teacher.net")
    assert same(loaded.build(), theirs)
    with pytest.raises(WeightsError, match=r'no part "teachr": .*did you mean teacher'):
        find_state({"teacher": {"net": state}}, part="teachr")


def test_whole_module_is_rejected(tmp_path, theirs):
    torch.save(theirs, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"holds more than tensors: .*torchvision\.models\.resnet\.ResNet"):
        load_file(tmp_path / "a.pth", source="torchvision", name="resnet18")


def test_imported_file_contains_its_contract(tmp_path, theirs, state):
    save_file(state, tmp_path / "a.bin")
    made = import_file(tmp_path / "a.bin", tmp_path / "a.safetensors", source="torchvision", name="resnet18")
    assert made.weights.sha256 == sha256_of(tmp_path / "a.bin")
    loaded = load_file(tmp_path / "a.safetensors")
    assert loaded.weights == made.weights
    assert loaded.weights.network.padding == "symmetric"
    assert same(loaded.build(), theirs)
    assert set(safetensors.torch.load_file(tmp_path / "a.safetensors")) == set(build(made.weights.network).state_dict())
    with pytest.raises(WeightsError, match="holds torchvision/resnet18, not timm/resnet50"):
        load_file(tmp_path / "a.safetensors", source="timm", name="resnet50")


@pytest.mark.parametrize("position", [0.001, 0.3, 0.999])
def test_modified_import_is_rejected(tmp_path, state, position):
    save_file(state, tmp_path / "a.bin")
    import_file(tmp_path / "a.bin", tmp_path / "a.safetensors", source="torchvision", name="resnet18")
    content = bytearray((tmp_path / "a.safetensors").read_bytes())
    content[int(position * len(content))] ^= 1
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError):
        load_file(tmp_path / "a.safetensors")


def test_published_name_with_another_file_is_rejected(tmp_path, state):
    save_file(state, tmp_path / "a.bin")
    with pytest.raises(WeightsError, match=r"is not torchvision/resnet18\.IMAGENET1K_V1 as published: its SHA-256"):
        import_file(tmp_path / "a.bin", tmp_path / "b.safetensors", source="torchvision", name="resnet18.IMAGENET1K_V1")
    assert not (tmp_path / "b.safetensors").exists()
    assert load_file(tmp_path / "a.bin", source="torchvision", name="resnet18").weights.preprocessing is None


def test_file_with_the_published_digest_gets_the_published_contract(tmp_path, state, monkeypatch):
    save_file(state, tmp_path / "a.bin")
    known = catalog.table("torchvision")
    digest = sha256_of(tmp_path / "a.bin")
    rows = tuple(
        row.model_copy(update={"sha256": digest[:8]}) if row.name == "resnet18.IMAGENET1K_V1" else row
        for row in known.rows
    )
    monkeypatch.setattr(catalog, "table", lambda source: known.model_copy(update={"rows": rows}))
    weights = load_file(tmp_path / "a.bin", source="torchvision", name="resnet18").weights
    assert (weights.name, weights.sha256) == ("resnet18.IMAGENET1K_V1", digest)
    assert weights.preprocessing.resolution == 224


def test_classifier_can_be_left_out(tmp_path, theirs):
    save_file(theirs.state_dict(), tmp_path / "a.bin")
    out = tmp_path / "a.safetensors"
    import_file(tmp_path / "a.bin", out, source="torchvision", name="resnet18", drop_head=True)
    loaded = load_file(out)
    assert not loaded.has_head
    with pytest.raises(WeightsError, match="has no classifier, so it cannot classify; train one"):
        loaded.build()
    network = loaded.weights.network.replace(classes=10, resolution=96)
    model = build(network)
    check_fits(loaded.weights, network, drop_head=True)
    missing = model.load_state_dict(loaded.state, strict=False)
    assert missing.missing_keys == ["head.classifier.weight", "head.classifier.bias"]
    assert not missing.unexpected_keys


def test_wrong_family_or_number_of_classes_is_rejected(tmp_path):
    save_file(torchvision.models.resnet18(num_classes=7).state_dict(), tmp_path / "a.bin")
    with pytest.raises(
        NetworkError, match=r"not those of torchvision's mobilenet_v2 with the structure of mobilenet_v2"
    ):
        load_weights(tmp_path / "a.bin", source="torchvision", name="mobilenet_v2")
    with pytest.raises(NetworkError, match=r"number of classes is not 9: give it with --classes, or --drop-head"):
        load_weights(tmp_path / "a.bin", source="torchvision", name="resnet18", classes=9)
    model = load_weights(tmp_path / "a.bin", source="torchvision", name="resnet18", classes=7)
    assert model.network.classes == 7


def test_weights_for_a_different_network_are_rejected(tmp_path, state):
    save_file(state, tmp_path / "a.bin")
    loaded = load_file(tmp_path / "a.bin", source="torchvision", name="resnet18")
    with pytest.raises(WeightsError, match=r"does not fit resnet18: padding is same, expected symmetric"):
        check_fits(loaded.weights, loaded.weights.network.replace(padding="same"))


def test_file_without_contract_needs_source_and_name(tmp_path, state):
    save_file(state, tmp_path / "a.bin")
    with pytest.raises(WeightsError, match="does not say which network it belongs to"):
        load_file(tmp_path / "a.bin")
    with pytest.raises(WeightsError, match="was not written by Triscale"):
        load_file(tmp_path / "a.bin", source="triscale", name="resnet18")


def test_missing_files_and_misspelled_names_are_reported(tmp_path):
    with pytest.raises(WeightsError, match="there is no file"):
        find_weights(str(tmp_path / "a.bin"))
    with pytest.raises(WeightsError, match="there is no file"):
        load_weights(tmp_path / "a.bin", source="timm", name="resnet18")
    with pytest.raises(WeightsError, match="did you mean timm/tf_efficientnet_b0"):
        find_weights("timm/tf_eficientnet_b0.ns_jft_in1k")


def write_run(folder: Path, network: Network) -> nn.Module:
    torch.manual_seed(5)
    model = build(network).eval()
    folder.mkdir()
    tensors = model.state_dict()
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(tensors, metadata={"triscale": "weights"}))
    spec = {
        "triscale": "run",
        "schema": 1,
        "network": network.model_dump(mode="json"),
        "preprocessing": Preprocessing(resolution=network.resolution).model_dump(mode="json"),
        "classes": ["blue", "green", "red"],
    }
    (folder / "run.json").write_text(json.dumps(spec))
    return model


@torch.no_grad()
def test_weights_of_a_run_are_read_with_its_contract(tmp_path, tiny):
    model = write_run(tmp_path / "run", tiny)
    for given in (tmp_path / "run", tmp_path / "run" / "model.safetensors"):
        loaded = find_weights(str(given))
        assert loaded.weights.classes == ("blue", "green", "red")
        assert loaded.weights.network == tiny
        images = torch.randn(2, 3, 16, 16)
        torch.testing.assert_close(loaded.build()(images), model(images), rtol=0, atol=0)


def test_modified_or_orphaned_run_weights_are_rejected(tmp_path, tiny):
    write_run(tmp_path / "run", tiny)
    file = tmp_path / "run" / "model.safetensors"
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(file.read_bytes())
    with pytest.raises(WeightsError, match=r"cannot read .*run\.json.*give the run directory"):
        load_file(alone)
    manifest = {"files": [{"name": "model.safetensors", "sha256": "0" * 64}]}
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match="was altered after its run ended"):
        load_file(file)


def test_contract_of_a_newer_schema_is_rejected(tmp_path, state):
    save_file(state, tmp_path / "a.bin")
    made = import_file(tmp_path / "a.bin", tmp_path / "a.safetensors", source="torchvision", name="resnet18")
    contract = json.loads(made.weights.to_json()) | {"schema": 3}
    with pytest.raises(RecordError, match="of schema 3, and this version of Triscale reads up to schema 2"):
        WeightsContract.from_json(json.dumps(contract))


def test_failed_import_keeps_previous_import(tmp_path, state):
    save_file(state, tmp_path / "a.bin")
    out = tmp_path / "a.safetensors"
    import_file(tmp_path / "a.bin", out, source="torchvision", name="resnet18")
    before = out.read_bytes()
    del state["fc.bias"]
    save_file(state, tmp_path / "b.bin")
    with pytest.raises(NetworkError, match=r"not in the weights: head\.classifier\.bias"):
        import_file(tmp_path / "b.bin", out, source="torchvision", name="resnet18")
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.safetensors", "b.bin"]
