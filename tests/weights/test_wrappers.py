"""Checkpoints as training programs write them: wrappers, losses, averages, other classifiers, types and values."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cli.command import refused, run
from triscale.errors import NetworkError, WeightsError
from triscale.nn.build import build
from triscale.weights.adapt import AdaptedState, adapt, check_finite
from triscale.weights.export import export_state
from triscale.weights.identify import identify
from triscale.weights.load import find_weights, load_file, load_weights, read_state
from triscale.weights.rules import expected_state, from_triscale, to_triscale
from triscale.weights.sources import SOURCES, network_of
from triscale.weights.unwrap import find_state

NETWORK = network_of("timm", "mobilenetv2_035")
RULES = SOURCES["timm"].rules["inverted"]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return dict(export_state(build(NETWORK).state_dict(), NETWORK, "timm", "mobilenetv2_035"))


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def later(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor + 1 for name, tensor in state.items()}


def adapted(content: object, part: str | None = None, **options) -> tuple[AdaptedState, str]:
    found, notes = find_state(content, part)
    result = adapt(found, NETWORK, RULES, **options)
    return result, "\n".join((*notes, *result.notes))


CLASS_WEIGHTS = {"weight": torch.ones(1000)}
WRAPPERS = {
    "plain": (lambda s: s, ""),
    "net": (lambda s: prefixed(s, "net."), '"net."'),
    "any attribute": (lambda s: prefixed(s, "my_backbone.encoder."), '"my_backbone.encoder."'),
    "ddp and compile": (lambda s: prefixed(s, "module._orig_mod."), '"module."'),
    "compile and ddp": (lambda s: prefixed(s, "_orig_mod.module."), '"_orig_mod."'),
    "compiled inside": (lambda s: prefixed(s, "model._orig_mod."), '"_orig_mod."'),
    "fsdp": (
        lambda s: {name.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."): value for name, value in s.items()},
        '"_fsdp_wrapped_module."',
    ),
    "criterion beside": (lambda s: prefixed(s, "net.") | prefixed(CLASS_WEIGHTS, "criterion."), 'outside "net."'),
    "criterion beside no prefix": (lambda s: s | prefixed(CLASS_WEIGHTS, "criterion."), "parameters of a loss"),
    "lightning": (
        lambda s: {
            "epoch": 3,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": prefixed(s, "model.")
            | prefixed(CLASS_WEIGHTS, "loss_fn.")
            | {"train_acc.tp": CLASS_WEIGHTS["weight"]},
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "hyper_parameters": {"lr": 0.1},
        },
        'outside "model."',
    ),
    "ema in one state dict": (
        lambda s: (
            prefixed(later(s), "model.") | prefixed(s, "model_ema.module.") | {"model_ema.n_averaged": torch.tensor(9)}
        ),
        'moving average in "model_ema.module." instead of "model."',
    ),
    "ema beside no prefix": (lambda s: later(s) | prefixed(s, "ema."), 'moving average in "ema." instead of ""'),
    "ema of a trainer": (
        lambda s: {"model_state_dict": later(s), "ema_model_state_dict": prefixed(s, "module."), "step": 4},
        'moving average in "ema_model_state_dict"',
    ),
    "half": (lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()}, "values of float16"),
    "sequence as classifier": (
        lambda s: {k.replace("classifier.", "classifier.1."): v for k, v in s.items()},
        'the classifier is "classifier.1" instead of "classifier"',
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_weights_in_any_wrapper_are_accepted_with_a_note(state, name):
    wrap, note = WRAPPERS[name]
    result, notes = adapted(wrap(state))
    assert note in notes
    assert (notes == "") == (note == "")
    assert result.has_head
    assert result.network == NETWORK
    mapped = to_triscale(result.state, result.network, RULES, "theirs")
    expected = to_triscale(state, NETWORK, RULES, "theirs")
    tolerance = 2e-3 if name == "half" else 0
    for key, tensor in expected.items():
        torch.testing.assert_close(mapped[key], tensor, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("outputs", [7, 21843])
def test_number_of_classes_follows_from_the_file(state, outputs):
    head = {"classifier.weight": torch.zeros(outputs, 1280), "classifier.bias": torch.zeros(outputs)}
    result, notes = adapted(state | head)
    assert result.network.classes == outputs
    assert f"the classifier has {outputs} outputs, not the 1000" in notes
    assert adapted(state | head, classes=outputs)[0].network.classes == outputs


def test_number_of_channels_follows_from_the_file(state):
    result, notes = adapted(state | {"conv_stem.weight": torch.zeros(16, 1, 3, 3)})
    assert result.network.in_channels == 1
    assert "images have 1 channels, not 3" in notes


def test_file_without_a_classifier_is_accepted(state):
    body = {name: tensor for name, tensor in state.items() if "classifier" not in name}
    result, notes = adapted(prefixed(body, "backbone.") | {"neck.weight": torch.zeros(2)})
    assert not result.has_head
    assert "there is no classifier in the file" in notes
    assert 'left out what lies outside "backbone.": neck.weight' in notes


def test_classifier_of_several_layers_can_be_left_out_only(state):
    body = {name: tensor for name, tensor in state.items() if "classifier" not in name}
    layers = {f"classifier.{number}.weight": torch.zeros(1280, 1280) for number in (0, 3)}
    with pytest.raises(NetworkError, match=r"not one linear layer \(classifier\.0\.weight.*with --drop-head"):
        adapted(body | layers)
    result, _ = adapted(body | layers, drop_head=True)
    assert not result.has_head
    assert result.state.keys() == body.keys()


def test_several_copies_without_an_average_are_refused_unless_named(state):
    content = {"state_dict": prefixed(state, "teacher.") | prefixed(later(state), "student.")}
    with pytest.raises(WeightsError, match=r"several copies of the network \(teacher, student\); name one with --part"):
        adapted(content)
    result, _ = adapted(content, part="teacher")
    assert torch.equal(result.state["conv_stem.weight"], state["conv_stem.weight"])


def test_modules_that_may_belong_to_the_network_are_not_left_out(state):
    result, _ = adapted(state | {"conv_head2.weight": torch.zeros(1)})
    with pytest.raises(NetworkError, match=r"not in the network: conv_head2\.weight"):
        to_triscale(result.state, result.network, RULES, "theirs")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused_with_the_name(state, value):
    bad = state["blocks.1.0.conv_pw.weight"].clone()
    bad[3] = value
    with pytest.raises(WeightsError, match=r'"blocks\.1\.0\.conv_pw\.weight" \(\d+ of \d+ are NaN or infinite\)'):
        adapted(prefixed(state | {"blocks.1.0.conv_pw.weight": bad}, "net."))


def test_large_finite_values_are_accepted():
    check_finite({"a": torch.full((4,), 3e38), "b": torch.tensor([1, 2])})


def test_half_precision_overflow_is_found(state):
    with pytest.raises(WeightsError, match=r'"bn1\.running_var"'):
        adapted(state | {"bn1.running_var": (state["bn1.running_var"] * 1e6).half()})


def test_quantized_weights_are_refused(state):
    with pytest.raises(WeightsError, match=r'"conv_stem\.weight" holds int8 values: these weights are quantized'):
        adapted(state | {"conv_stem.weight": state["conv_stem.weight"].to(torch.int8)})


def test_weights_of_a_run_that_are_not_finite_are_refused(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    from triscale.weights.load import import_file
    from triscale.weights.tensors import read_tensors, write_tensors

    import_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", source="timm", name="mobilenetv2_035")
    tensors, metadata = read_tensors(tmp_path / "b.safetensors")
    tensors["stem.norm.bias"] = torch.full_like(tensors["stem.norm.bias"], float("nan"))
    write_tensors(tmp_path / "c.safetensors", tensors, {k: v for k, v in metadata.items() if k != "tensors_sha256"})
    with pytest.raises(WeightsError, match=r'c\.safetensors: .*"stem\.norm\.bias"'):
        find_weights(str(tmp_path / "c.safetensors"))


@pytest.mark.process
def test_checkpoint_with_options_and_scores_beside_is_read(tmp_path, state):
    content = {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1, output=Path("runs")),
        "best": np.float64(0.7),
        "metric": np.float32(0.7),
    }
    torch.save(content, tmp_path / "a.pth.tar")
    assert load_file(tmp_path / "a.pth.tar", source="timm", name="mobilenetv2_035").has_head


@pytest.mark.process
def test_refusal_of_an_object_says_how_to_save_the_weights(tmp_path, state):
    torch.save({"state_dict": state, "activation": torch.nn.ReLU()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError) as caught:
        load_file(tmp_path / "a.pth", source="timm", name="mobilenetv2_035")
    assert "it holds more than tensors: an object of torch.nn.modules.activation.ReLU; where its" in str(caught.value)
    assert "torch.save(model.state_dict(), FILE)" in str(caught.value)
    assert "add_safe_globals" not in str(caught.value)


@torch.no_grad()
def test_features_of_a_file_are_loaded_with_drop_head(tmp_path, state):
    save_file(prefixed(state, "net."), tmp_path / "a.safetensors")
    options = {"source": "timm", "name": "mobilenetv2_035"}
    model = load_weights(tmp_path / "a.safetensors", drop_head=True, **options)
    whole = load_weights(tmp_path / "a.safetensors", **options)
    images = torch.randn(2, 3, 64, 64)
    assert model(images).shape == (2, 1280)
    torch.testing.assert_close(model(images), whole.forward_head(whole.forward_features(images), pre_logits=True))


def test_plain_state_dict_of_another_trainer_is_read(tmp_path, state):
    save_file(prefixed(state, "module."), tmp_path / "a.safetensors")
    assert read_state(str(tmp_path / "a.safetensors")).keys() == state.keys()


@pytest.mark.parametrize(
    ("source", "name"),
    [("timm", "tf_efficientnet_b0"), ("lukemelas", "efficientnet-lite1"), ("torchvision", "mnasnet0_5")],
)
def test_network_is_identified_by_names_and_shapes(source, name):
    network = network_of(source, name)
    rules = SOURCES[source].rules[SOURCES[source].architectures[name].family]
    theirs = dict(from_triscale(expected_state(network.replace(classes=5)), network, rules))
    found = identify(prefixed(theirs, "net."))
    assert (source, name) in found
    bases = {SOURCES[one].architectures[other].base for one, other in found}
    assert bases == {SOURCES[source].architectures[name].base}


def test_training_names_the_import_to_type(tmp_path, state, capsys, images):
    file = tmp_path / "my weights.safetensors"
    save_file(prefixed(state, "net."), file)
    message = refused(capsys, "train", images, "--weights", file, "--out", tmp_path / "run")
    out = tmp_path / "my weights.triscale.safetensors"
    command = f"weights import '{file}' --source timm --name mobilenetv2_035 --out '{out}'"
    assert f"import it first: triscale {command}" in message
    result = run(capsys, "weights", "import", file, "--source", "timm", "--name", "mobilenetv2_035", "--out", out)
    assert result.code == 0
    assert 'removed the prefix "net."' in result.out
    assert find_weights(str(out)).has_head


def test_wrong_name_is_answered_with_the_right_one(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(NetworkError, match=r"names and shapes are those of --source timm --name mobilenetv2_035"):
        load_file(tmp_path / "a.safetensors", source="timm", name="mobilenetv2_050")
