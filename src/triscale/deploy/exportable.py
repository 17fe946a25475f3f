"""A model with everything that an export needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from triscale.deploy.contract import Contract
from triscale.network.input_size import ImageShape
from triscale.network.spec import Network


@dataclass(frozen=True, slots=True)
class Exportable:
    """A trained model to export.

    Attributes:
        model: In evaluation mode, on the CPU; takes normalized ``[N, *input_shape]``.
        contract: Preprocessing and classes.
        network: The model's Network; None for a custom model, which is traced.
    """

    model: nn.Module
    contract: Contract
    network: Network | None = None

    @property
    def input_shape(self) -> ImageShape:
        """Channels, height and width of an image."""
        return self.contract.preprocessing.input_shape

    @property
    def state(self) -> dict[str, NDArray[np.float32]]:
        """The tensors of the model by name."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.model.state_dict().items()}
