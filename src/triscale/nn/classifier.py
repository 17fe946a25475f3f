"""The module of a network, with the vocabulary that timm's models share."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import accumulate
from typing import Literal, TypedDict, overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from triscale.errors import NetworkError
from triscale.network.contract import Preprocessing
from triscale.network.spec import Network
from triscale.nn.chain import run
from triscale.nn.initialize import initialize


class FeatureMap(TypedDict):
    """One feature map of a network: the module that puts it out, its channels and its reduction of the input's side."""

    module: str
    num_chs: int
    reduction: int


class Classifier(nn.Module):
    """A built Network: stem, stages, head.

    The input is ``[N, in_channels, H, W]``, normalized; sides other than the network's resolution work too. The output
    is ``[N, classes]`` logits.

    Attributes:
        network: The network that it computes, as data.
        preprocessing: How an image becomes its input, if it holds pretrained weights.
        num_classes: Number of outputs; 0 after ``reset_classifier(0)``.
        num_features: Channels of the map that the head pools.
        head_hidden_size: Inputs of the classifier: another number if the head has a wide layer after the pool.

    Example:
        >>> from triscale.families import get
        >>> from triscale.nn.build import build
        >>> model = build(get("mobilenet_v2@32"))
        >>> isinstance(model, Classifier), model.num_classes, model.num_features
        (True, 1000, 1280)
    """

    def __init__(self, network: Network, stem: nn.Module, stages: nn.Sequential, head: ClassifierHead) -> None:
        super().__init__()
        self.network = network
        self.preprocessing: Preprocessing | None = None
        self.stem = stem
        self.stages = stages
        self.head = head
        self.num_classes = network.classes
        self.head_hidden_size = head.classifier.in_features if isinstance(head.classifier, nn.Linear) else 0
        self.num_features = network.head.width or network.stages[-1].width
        self.grad_checkpointing = False

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[N, classes]`` of normalized images ``[N, in_channels, H, W]``."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature map.

        Args:
            images: Normalized images ``[N, in_channels, H, W]``.

        Returns:
            The map ``[N, num_features, h, w]`` that the head pools.

        Example:
            >>> from triscale.families import get
            >>> from triscale.nn.build import build
            >>> tuple(build(get("efficientnet_b0@32")).forward_features(torch.zeros(2, 3, 32, 32)).shape)
            (2, 1280, 4, 4)
        """
        maps = self._run(self.stem, images)
        for stage in self.stages:
            maps = self._run(stage, maps)
        return self.head.maps(maps)

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify the last feature map.

        Args:
            maps: What :meth:`forward_features` returns.
            pre_logits: Whether to return the input of the classifier instead of logits.

        Returns:
            ``[N, classes]`` logits, or ``[N, head_hidden_size]``.
        """
        return self.head.classify(maps, pre_logits=pre_logits)

    @overload
    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: Literal[True],
    ) -> list[Tensor]: ...
    @overload
    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: Literal[False] = False,
    ) -> tuple[Tensor, list[Tensor]]: ...
    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return feature maps on the way, the last one at each reduction; :attr:`feature_info` describes them.

        Args:
            images: Normalized images ``[N, in_channels, H, W]``.
            indices: Indices into :attr:`feature_info`; a number n means the last n; None means all.
            stop_early: Whether to skip the layers after the last requested map; with ``intermediates_only``.
            output_fmt: ``NCHW``, the only format.
            intermediates_only: Whether to leave out the last feature map.

        Returns:
            The maps, the finest first, and before them the map of :meth:`forward_features` unless left out.

        Raises:
            NetworkError: An index or the format is not known.

        Example:
            >>> from triscale.families import get
            >>> from triscale.nn.build import build
            >>> last, maps = build(get("resnet18")).forward_intermediates(torch.zeros(1, 3, 64, 64), indices=2)
            >>> [tuple(map.shape) for map in maps], tuple(last.shape)
            ([(1, 256, 4, 4), (1, 512, 2, 2)], (1, 512, 2, 2))
        """
        if output_fmt != "NCHW":
            raise NetworkError(f'feature maps cannot have the format "{output_fmt}"; expected "NCHW"')
        ends = list(module_indices(self.network).values())
        requested = _requested(indices, len(ends))
        modules = [self.stem, *self.stages]
        if stop_early and intermediates_only:
            modules = modules[: ends[max(requested)] + 1]
        found: dict[int, Tensor] = {}
        maps = images
        for index, module in enumerate(modules):
            maps = self._run(module, maps)
            if index in ends:
                found[ends.index(index)] = maps
        intermediates = [found[index] for index in requested]
        return intermediates if intermediates_only else (self.head.maps(maps), intermediates)

    @property
    def feature_info(self) -> list[FeatureMap]:
        """The feature maps of :meth:`forward_intermediates`: module, channels and reduction, the finest first.

        Example:
            >>> from triscale.families import get
            >>> from triscale.nn.build import build
            >>> build(get("efficientnet_b0")).feature_info[-1]
            {'module': 'stages.6', 'num_chs': 320, 'reduction': 32}
        """
        widths = [self.network.stem.width, *(stage.width for stage in self.network.stages)]
        return [
            {"module": f"stages.{index - 1}" if index else "stem", "num_chs": widths[index], "reduction": reduction}
            for reduction, index in module_indices(self.network).items()
        ]

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer, or the identity after ``reset_classifier(0)``."""
        return self.head.classifier

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Replace the classifier by a new one with random weights.

        Args:
            num_classes: Number of outputs. With 0 the model returns ``[N, head_hidden_size]``, and ``network`` keeps
                its number of classes, since a network as data has at least one.
            global_pool: ``avg``, the only pooling.

        Raises:
            NetworkError: The number is negative, or the pooling is not known.

        Example:
            >>> from triscale.families import get
            >>> from triscale.nn.build import build
            >>> model = build(get("efficientnet_b0@32"))
            >>> model.reset_classifier(10)
            >>> model.get_classifier(), model.network.classes
            (Linear(in_features=1280, out_features=10, bias=True), 10)
        """
        if num_classes < 0:
            raise NetworkError(f"a model cannot have {num_classes} classes; expected 0 (no classifier) or more")
        if global_pool != "avg":
            raise NetworkError(f'the pooling "{global_pool}" is not known; expected "avg"')
        old = next(self.parameters())
        new: nn.Module = nn.Identity()
        if num_classes:
            new = nn.Linear(self.head_hidden_size, num_classes, device=old.device, dtype=old.dtype)
            initialize(new)
            self.network = self.network.replace(classes=num_classes)
        self.head.classifier = new
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the inputs of stages in training, and compute the rest again in the backward pass.

        This takes less memory and about a third more time. Gradients and batch norm statistics are the same.

        Args:
            enable: Whether to do so.
        """
        self.grad_checkpointing = enable

    def _run(self, module: nn.Module, maps: Tensor) -> Tensor:
        result: Tensor
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            result = checkpoint(module, maps, use_reentrant=False, context_fn=partial(_first_and_again, module))
        else:
            result = module(maps)
        return result


class ClassifierHead(nn.Module):
    """The head of a network: optional convolution, global average pool, dropout and classifier."""

    classifier: nn.Module

    def __init__(self, children: dict[str, nn.Module]) -> None:
        super().__init__()
        names = list(children)
        pool = names.index("pool")
        self.map_names, self.vector_names = tuple(names[:pool]), tuple(names[pool:-1])
        for name, module in children.items():
            self.add_module(name, module)

    @property
    def vector_layers(self) -> tuple[nn.Module, ...]:
        """The layers with weights after the pool; the classifier is the last, and usually the only one."""
        after = [getattr(self, name) for name in self.vector_names]
        layers = [layer for part in after for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        return (*layers, self.classifier)

    def maps(self, maps: Tensor) -> Tensor:
        """Return the feature maps ``[N, C, h, w]`` before pooling."""
        return run([getattr(self, name) for name in self.map_names], maps)

    def classify(self, maps: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Pool feature maps and return logits ``[N, classes]``, or the classifier's input."""
        for name in self.vector_names:
            maps = getattr(self, name)(maps)
        logits: Tensor = maps if pre_logits else self.classifier(maps)
        return logits

    def forward(self, maps: Tensor) -> Tensor:
        """Return logits ``[N, classes]``."""
        return self.classify(self.maps(maps))


def module_indices(network: Network) -> dict[int, int]:
    """Return the index of the last module at each reduction, the finest first; 0 is the stem, 1 the first stage."""
    first = network.stem.stride * (2 if network.stem.max_pool else 1)
    reductions = accumulate((stage.stride for stage in network.stages), operator.mul, initial=first)
    # A later module at the same reduction replaces an earlier one, so each reduction keeps its last map.
    return {reduction: index for index, reduction in enumerate(reductions)}


def _requested(indices: int | Sequence[int] | None, number: int) -> list[int]:
    if indices is None:
        return list(range(number))
    given = list(range(-indices, 0)) if isinstance(indices, int) else list(indices)
    if not given or not all(-number <= index < number for index in given):
        raise NetworkError(f"there are no feature maps {indices}; expected at most {number}, or indices below {number}")
    return [index % number for index in given]


def _first_and_again(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of the forward pass and of the recomputation, which must not count a batch twice."""
    return nullcontext(), _kept_buffers(module)


@contextmanager
def _kept_buffers(module: nn.Module) -> Iterator[None]:
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
