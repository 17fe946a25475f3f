"""A file of weights with class names, for tests."""

from pathlib import Path

import torch

from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.weights.contract import WeightsContract
from triscale.weights.load import CONTRACT_KEY, KIND_KEY
from triscale.weights.tensors import write_tensors

NAMES = ("yellow", "red", "white", "green", "blue")


def write_weights(file: Path, network, classes=NAMES, **more) -> Path:
    torch.manual_seed(2)
    network = network.replace(classes=len(NAMES))
    contract = WeightsContract(
        source="timm", name="tiny", architecture="tiny", network=network, classes=classes,
        preprocessing=Preprocessing(resolution=16, crop=0.8, mean=(0.5,) * 3), **more,
    )  # fmt: skip
    write_tensors(file, build(network).state_dict(), {KIND_KEY: "weights", CONTRACT_KEY: contract.to_json()})
    return file
