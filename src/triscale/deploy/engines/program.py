"""Programs that torch.export makes of modules, for any batch size."""

from __future__ import annotations

import torch
from torch import nn

from triscale.deploy.engines.quiet import FAILURES, converting, first_line, quiet_process
from triscale.errors import ExportError
from triscale.network.input_size import ImageShape


def program_of(model: nn.Module, input_shape: ImageShape, max_batch: int | None = None) -> torch.export.ExportedProgram:
    """Return a model as a program for batches of any size.

    A forward that turns the batch size into a Python number, such as ``len(images)`` or ``int(images.shape[0])``, is
    exported by an analysis of its Python code (torch's strict mode), which is slower.

    Args:
        model: In evaluation mode; takes ``[N, *input_shape]``.
        input_shape: Channels, height and width.
        max_batch: The largest batch size; None for no limit.

    Raises:
        ExportError: torch cannot export the model for more than one batch size.
    """
    example = torch.zeros(2, *input_shape)
    shapes = ({0: torch.export.Dim("batch", min=1, max=max_batch)},)
    with quiet_process():
        try:
            return torch.export.export(model, (example,), dynamic_shapes=shapes, strict=False)
        except FAILURES as error:
            reason = first_line(error)
    try:
        with converting("strict"):
            return torch.export.export(model, (example,), dynamic_shapes=shapes, strict=True)
    except ExportError as error:
        raise ExportError(
            f"torch cannot export the model for any batch size: {reason}; its forward must keep images.shape[0] as it "
            "is, without a fixed number or numpy"
        ) from error
