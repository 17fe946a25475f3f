"""TensorFlow checkpoints: our reader returns the same values as TensorFlow's own."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import WeightsError
from triscale.families import get
from triscale.network.spec import Head, MBConv, Network, Stage, Stem
from triscale.nn.build import build
from triscale.weights.bundle import read_bundle, to_torch
from triscale.weights.crc import crc32c
from triscale.weights.foreign import unpack_checkpoint
from triscale.weights.load import load_file
from triscale.weights.rules import to_triscale
from triscale.weights.sources import SOURCES

DATA = Path(__file__).parent / "data"
INDEX = DATA / "model.ckpt.index"
AVERAGE = "/ExponentialMovingAverage"

NETWORK = Network(
    name="tiny",
    stem=Stem(width=8),
    stages=(
        Stage(block=MBConv(expansion=1, kernel=3, se_ratio=0.25), width=8, repeats=1),
        Stage(block=MBConv(expansion=2, kernel=5, se_ratio=0.25), width=8, repeats=1),
    ),
    head=Head(width=16),
    resolution=16,
    classes=5,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    for path in DATA.glob("model.ckpt.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "model.ckpt.index"


def test_values_match_tensorflow():
    result = read_bundle(INDEX)
    assert result["global_step"] == 218949
    written = np.load(DATA / "model.npz")
    names = [str(name) for name in written["names"]]
    assert sorted(result) == sorted([*names, "global_step"])
    np.testing.assert_array_equal(np.concatenate([result[name].ravel() for name in names]), written["values"])


def test_averages_are_preferred_and_all_variables_are_mapped():
    variables = read_bundle(INDEX)
    state, notes = to_torch(variables)
    assert notes == (
        "used the moving averages of 45 of 45 variables",
        'removed the scope "efficientnet-b0/" from all names',
    )
    model = build(NETWORK)
    model.load_state_dict(to_triscale(state, NETWORK, SOURCES["google"].rules["efficientnet"], "TensorFlow's"))
    scope = "efficientnet-b0"
    kernel = variables[f"{scope}/blocks_1/conv2d/kernel{AVERAGE}"]
    torch.testing.assert_close(
        model.get_parameter("stages.1.blocks.0.expand.conv.weight").detach(),
        torch.from_numpy(np.array(kernel)).permute(3, 2, 0, 1),
        rtol=0,
        atol=0,
    )
    dense = variables[f"{scope}/head/dense/kernel{AVERAGE}"]
    np.testing.assert_array_equal(model.get_parameter("head.classifier.weight").detach().numpy(), dense.T)
    depthwise = variables[f"{scope}/blocks_1/depthwise_conv2d/depthwise_kernel{AVERAGE}"]
    result = model.get_parameter("stages.1.blocks.0.depthwise.conv.weight").detach().numpy()
    np.testing.assert_array_equal(result[3, 0], depthwise[:, :, 3, 0])


def test_folder_prefix_and_archive_are_read(checkpoint: Path, tmp_path: Path):
    expected = sorted(read_bundle(checkpoint))
    assert sorted(read_bundle(tmp_path)) == expected
    assert sorted(read_bundle(tmp_path / "model.ckpt")) == expected
    archive = tmp_path / "efficientnet-b0.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for path in sorted(tmp_path.glob("model.ckpt.*")):
            file.add(path, f"efficientnet-b0/{path.name}")
    with unpack_checkpoint(archive) as index:
        assert sorted(read_bundle(index)) == expected


def test_checkpoint_of_another_network_is_rejected_with_list(checkpoint: Path):
    with pytest.raises(Exception, match=r"not in the weights: stages\.1\.blocks\.1.*of another shape: stem\.conv"):
        load_file(checkpoint, source="google", name="efficientnet-b0")


def test_variable_without_layer_is_rejected():
    with pytest.raises(WeightsError, match='a variable "b0/whatever" that does not belong to a layer'):
        to_torch({"b0/whatever": np.zeros(3, np.float32)})


def test_compressed_index_is_rejected(checkpoint: Path):
    content = bytearray(checkpoint.read_bytes())
    content[handle_end(content)] = 1
    checkpoint.write_bytes(content)
    with pytest.raises(WeightsError, match="has compressed blocks"):
        read_bundle(checkpoint)


def handle_end(content: bytes) -> int:
    """Return where the type of the index block stands, by the footer's second handle."""
    footer, at, numbers = content[-48:], 0, []
    while len(numbers) < 4:
        value = shift = 0
        while True:
            byte = footer[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        numbers.append(value)
    return numbers[2] + numbers[3]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_corrupted_byte_is_never_read_as_another_value(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("changed")
    for path in DATA.glob("model.ckpt.*"):
        shutil.copy(path, folder)
    victim = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(victim.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    victim.write_bytes(content)
    expected = read_bundle(INDEX)
    try:
        result = read_bundle(folder)
    except WeightsError:
        return
    # A few bytes mean nothing: the padding of the footer, and the counter of steps that is read but not used.
    assert sorted(result) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(result[name], values)


def test_missing_data_file_is_reported(checkpoint: Path, tmp_path: Path):
    (tmp_path / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(WeightsError, match=r"needs one file model\.ckpt\.data-00000-of-\.\.\., and there are 0"):
        read_bundle(checkpoint)


def test_crc_is_crc32c():
    assert crc32c(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283  # the check value of CRC-32C
    assert crc32c(np.zeros(32, np.uint8)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(np.full(32, 255, np.uint8)) == 0x62A8AB43


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3), st.integers(0, 100_000), st.integers(0, 2**32 - 1))
def test_parallel_and_bytewise_crc_agree(lanes, rest, seed):
    data = np.random.default_rng(seed).integers(0, 256, lanes * 16384 + rest, dtype=np.uint8)
    register = 0xFFFFFFFF
    for byte in data.tolist()[:40_000]:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data[:40_000]) == register ^ 0xFFFFFFFF


def test_lite_networks_have_no_squeeze_and_excitation():
    assert SOURCES["google"].architectures["efficientnet-lite0"].network.replace(name="efficientnet_lite0") == get(
        "efficientnet_lite0"
    )
