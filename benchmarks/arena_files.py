"""Write int8 files of networks by LiteRT's converter for torch, for ``benchmarks/arena.py --files``.

    python -m venv .venv-litert
    .venv-litert/bin/pip install litert-torch torchvision '.[litert]'
    .venv-litert/bin/python benchmarks/arena_files.py FOLDER
    .venv-arena/bin/python benchmarks/arena.py --files FOLDER > benchmarks/results/arena_litert.txt

This is the way of a run, ``examples/int8_microcontroller.py``: Triscale's torch module, here with random weights,
converted by ``litert-torch`` and quantized by ``ai-edge-quantizer``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from triscale.families import get
from triscale.nn.build import build

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from int8_microcontroller import compact, quantized

NETWORKS = (
    "mobilenet_v1_025@96", "mobilenet_v2@96", "mobilenet_v3_small@64", "mnasnet_b1@80", "efficientnet_b0@64",
    "efficientnet_lite0@128", "tinynet_e", "resnet18@64", "resnet50@64", "mcunet_10fps", "mcunet_320kb",
    "mobilenet_v2_030_80",
)  # fmt: skip
CALIBRATION_IMAGES = 2


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        torch.manual_seed(0)
        network = get(name)
        images = [torch.randn(1, *network.input_shape).numpy() for _ in range(CALIBRATION_IMAGES)]
        (folder / f"{name}.tflite").write_bytes(compact(quantized(build(network), images)))
        print(name, flush=True)


if __name__ == "__main__":
    main()
