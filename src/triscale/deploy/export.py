"""Export to ONNX with the preprocessing contract inside, checked against the model before the file counts."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from triscale.deploy.engines import CONTRACT_KEY, Contract, OnnxModel
from triscale.errors import ParityError
from triscale.record import Record, sync_directory

TOLERANCE = 1e-3
LARGEST_BATCH = 64
SMALLEST_SCALE = 1e-12


class Export(Record):
    """An exported file and how its outputs agree with the model's on ``images`` images.

    ``max_error`` is the largest difference of a logit, relative to the largest logit of the model; ``agreement`` is
    the share of images with the same first class.
    """

    kind_name: ClassVar[str] = "export"

    file: str
    engine: str = "ONNX Runtime"
    size_bytes: int
    images: int
    max_error: float
    agreement: float


def export_onnx(model: nn.Module, contract: Contract, images: Tensor, path: Path) -> Export:
    """Write a model as ONNX with any batch size, and check it on normalized ``images`` ``[N, 3, S, S]``.

    The file appears under its name only after the check: logits within 1e-3 of the model's, relative to the largest,
    and the same first class wherever the model's two best logits differ by more than that; in one batch and singly.

    Raises:
        ParityError: the exported file computes something else; nothing is left behind.
    """
    model = model.cpu().eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as aside:
        draft = Path(aside) / path.name
        onnx.save(_with_contract(_to_onnx(model, images), contract), draft)
        with torch.inference_mode():
            expected = np.concatenate([model(part).numpy() for part in torch.split(images, LARGEST_BATCH)])
        exported = OnnxModel(draft)
        found = np.concatenate([exported(part.numpy()) for part in torch.split(images, LARGEST_BATCH)])
        single = exported(images[:1].numpy())
        scale = max(SMALLEST_SCALE, float(np.abs(expected).max()))
        error = max(float(np.abs(found - expected).max()), float(np.abs(single - expected[:1]).max())) / scale
        same = found.argmax(1) == expected.argmax(1)
        best = np.sort(expected, axis=1)
        clear = np.ones(len(best), dtype=bool) if best.shape[1] < 2 else best[:, -1] - best[:, -2] > TOLERANCE * scale
        if not error <= TOLERANCE or not same[clear].all():
            raise ParityError(
                f"the exported file differs from the model by {error:.1e} (allowed {TOLERANCE:.0e}), with the same "
                f"first class on {same.mean():.1%} of {len(same)} images; the file was not kept"
            )
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        size = draft.stat().st_size
        draft.replace(path)
    sync_directory(path.parent)
    return Export(file=path.name, size_bytes=size, images=len(same), max_error=error, agreement=float(same.mean()))


def write_unchecked(model: nn.Module, resolution: int, path: Path) -> None:
    """Write a model as ONNX to be timed, not to be used: there is no contract inside, and nothing is checked.

    Args:
        model: takes ``[N, 3, resolution, resolution]``.
        resolution: in pixels.
        path: of the file.
    """
    onnx.save(_to_onnx(model.cpu().eval(), torch.zeros(2, 3, resolution, resolution)), path)


def _to_onnx(model: nn.Module, images: Tensor) -> onnx.ModelProto:
    """Trace a model with a free batch dimension; the exporter's chatter is kept from the terminal."""
    example = images[:1].repeat(2, 1, 1, 1)
    silent = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            )
        finally:
            logging.disable(logging.NOTSET)
    assert program is not None
    return program.model_proto


def _with_contract(proto: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    entry = proto.metadata_props.add()
    entry.key, entry.value = CONTRACT_KEY, contract.to_json()
    return proto
