"""Accuracy of smaller networks with weights inherited from published ones, before any training.

Run with: python benchmarks/inherit_published.py PHOTOS --weights FILE [--share 0.5]

FILE holds ImageNet weights, as ``triscale weights import`` writes them. PHOTOS is a folder of class folders named by
wnid. A random half of the photos, without labels, calibrates the smaller networks; the others test them. Each network
has at most ``--share`` of the source's MACs: by the coefficients of the paper, by depth, width or resolution alone.
``largest scales`` keeps the channels with the largest batch norm scales and the first blocks, and re-estimates the
statistics of batch norm; ``least squares`` is what ``--weights inherit:FILE`` does.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

import triscale as ts
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.jobs.training.inherited import CalibrationImages, load_inherited
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.training.metrics import wilson
from triscale.training.transfer import reestimate_norms
from triscale.weights.catalog import imagenet_wnids
from triscale.weights.inherit import inherit
from triscale.weights.inheritance_plan import plan_inheritance
from triscale.weights.load import load_file

LAWS = {
    "compound": ts.Law(alpha=1.2, beta=1.1, gamma=1.15),
    "depth": ts.Law(alpha=2, beta=1, gamma=1),
    "width": ts.Law(alpha=1, beta=math.sqrt(2), gamma=1),
    "resolution": ts.Law(alpha=1, beta=1, gamma=math.sqrt(2)),
}
DEVICE = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_file(arguments.weights)
    source, preprocessing = loaded.weights.network, loaded.weights.preprocessing
    assert preprocessing is not None
    shuffled = shuffled_photos(arguments.photos)
    half = len(shuffled) // 2

    def images_at(network: Network, samples: list[Sample]) -> CalibrationImages:
        prepared = preprocessing.replace(resolution=network.resolution)
        return CalibrationImages(samples=samples, root=str(arguments.photos), preprocessing=prepared, device=DEVICE)

    macs = ts.cost(source).macs
    print(f"{source.name}, {macs / 1e6:.0f}M MACs; {half} photos calibrate, {len(shuffled) - half} test; top-1 in %")
    print(
        f"  source at {source.resolution} px: {accuracy(loaded.build(), images_at(source, shuffled[half:]))}",
        flush=True,
    )
    for name, law in LAWS.items():
        target = ts.fit_budget(source, law, ts.Budget(macs=int(arguments.share * macs))).network
        calibration, test = images_at(target, shuffled[:half]), images_at(target, shuffled[half:])
        plain = build(target)
        plain.load_state_dict(inherit(plan_inheritance(source, target), loaded.state, plain.state_dict()))
        batches = eval_batches(calibration.samples, calibration.root, calibration.preprocessing, batch=64)
        reestimate_norms(plain.eval(), batches, calibration.preprocessing, DEVICE)
        heir = build(target)
        load_inherited(heir, source, loaded.state, calibration, keep_head=True)
        unchanged = f", weights as they are {accuracy(loaded.build(), test)}" if name == "resolution" else ""
        print(
            f"  {name}, {ts.cost(target).macs / 1e6:.0f}M MACs, {target.resolution} px, "
            f"{sum(stage.repeats for stage in target.stages)} blocks: largest scales {accuracy(plain, test)}, "
            f"least squares {accuracy(heir, test)}{unchanged}",
            flush=True,
        )


def shuffled_photos(folder: Path) -> list[Sample]:
    """Return the photographs of a folder with a folder for each WordNet ID, labeled with ImageNet's classes."""
    outputs = {wnid: number for number, wnid in enumerate(imagenet_wnids())}
    photos = [
        Sample(path=str(path.relative_to(folder)), label=outputs[path.parent.name])
        for path in sorted(folder.glob("*/*"))
    ]
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(0)).tolist()
    return [photos[index] for index in order]


@torch.inference_mode()
def accuracy(model: torch.nn.Module, images: CalibrationImages) -> str:
    model.eval().to(memory_format=torch.channels_last)
    predicted = torch.cat([model(batch).argmax(1) for batch in images.normalized(len(images.samples))])
    right = int((predicted == torch.tensor([sample.label for sample in images.samples])).sum())
    low, high = wilson(right, len(predicted))
    return f"{100 * right / len(predicted):.1f} ({100 * low:.1f}-{100 * high:.1f})"


if __name__ == "__main__":
    main()
