"""A weight-sharing supernet: one module that holds the weights of all networks of a space as slices.

Members with the same kind of block share its weights: the first blocks of a stage, the first channels and the center of
the kernels (Once-for-All, Cai et al. 2020). Each training step runs the largest members, the smallest and some random
ones (the sandwich rule: Universally Slimmable Networks, Yu & Huang 2019). A member runs as the module of
:func:`triscale.nn.build.build` with slices in place of its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from triscale.errors import NetworkError
from triscale.network import tree
from triscale.network.spec import Basic, Block, Bottleneck, FusedMBConv, MBConv, Network, UniversalBottleneck
from triscale.nn.build import build
from triscale.nn.classifier import Classifier

Draw = Callable[[Callable[[], float]], Network]
"""Returns a random member, given a function that returns random numbers in [0, 1)."""

REMEMBERED = 64
"""Number of members whose modules are cached, without weights."""


class Supernet(nn.Module):
    """A supernet: the largest module of each kind of block in each stage, between a shared stem and head.

    In training the output is ``[K, N, classes]``, the logits of K members: the corners, the fixed members and random
    ones, drawn with torch's generator. In evaluation it is ``[N, classes]``, the logits of the first corner. Batch-norm
    statistics are that corner's; for any other member they must be reestimated.

    Args:
        corners: The largest networks, with the same stem, head and widths. For each kind of block of a stage, the first
            corner with that kind provides the module.
        draw: Returns a random member.
        fixed: Members that are trained at each step besides the corners, such as the smallest.
        samples: Number of random members per step.

    Raises:
        NetworkError: There is no corner, or the corners differ in stem, head, widths or strides.
    """

    def __init__(
        self, corners: Sequence[Network], *, draw: Draw, fixed: Sequence[Network] = (), samples: int = 2
    ) -> None:
        super().__init__()
        if len({(_shared_fields(corner), *(stage.width for stage in corner.stages)) for corner in corners}) != 1:
            raise NetworkError(
                f"the corners of a supernet ({', '.join(corner.name for corner in corners) or 'none given'}) must have "
                "the same stem, head, widths and strides; give the largest networks of one space"
            )
        self.corners, self.fixed, self.draw, self.samples = tuple(corners), tuple(fixed), draw, samples
        built = [build(corner) for corner in corners]
        self.stem, self.head = built[0].stem, built[0].head
        self.stages = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        for corner, model in zip(corners, built, strict=True):
            for number, (stage, module) in enumerate(zip(corner.stages, model.stages, strict=True)):
                key = _key(number, stage.block)
                if key not in self.stages:
                    self.stages[key] = module
                    if isinstance(stage.block, Basic | Bottleneck) and not _projects(module):
                        self.projections[key] = _projection(corner, number)
        self.member = _Member()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits for images ``[N, 3, H, W]``; in training those of several members."""
        first, *others = self.corners
        if not self.training:
            maps = self.stem(images)
            for number, stage in enumerate(first.stages):
                maps = self.stages[_key(number, stage.block)](maps)
            single: Tensor = self.head(maps)
            return single
        # Sample the members before any other use of the generator, so that they depend on the seed only.
        sampled = [self.draw(_random) for _ in range(self.samples)]
        # Only the first corner updates the shared running statistics. The other members update those of their cached
        # modules, which are never read.
        buffers = dict(self.named_buffers())
        names = [name for name, _ in _without_weights(first, images.device).named_buffers()]
        shared = {name: buffers[self._shared_name(first, name)] for name in names}
        logits = [self.member(images, first, self.slices(first) | shared)]
        logits += [self.member(images, member, self.slices(member)) for member in (*others, *self.fixed, *sampled)]
        return torch.stack(logits)

    def slices(self, member: Network) -> dict[str, Tensor]:
        """Return the weights of a member by the names of its built module, as views of the shared weights.

        Raises:
            NetworkError: It is not a member: it differs from the corners in a shared part, or is larger.
        """
        if _shared_fields(member) != _shared_fields(self.corners[0]):
            raise self._not_a_member(member, "another stem, head, number of classes, padding or strides")
        shared = dict(self.named_parameters())
        slices = {}
        for name, value in _without_weights(member, self._device).named_parameters():
            whole = shared.get(self._shared_name(member, name))
            if whole is None or any(held < needed for held, needed in zip(whole.shape, value.shape, strict=True)):
                size = " x ".join(map(str, value.shape))
                raise self._not_a_member(member, f"{name} of shape {size}, which the shared weights do not contain")
            slices[name] = _slice(whole, value.shape)
        return slices

    @torch.no_grad()
    def extract(self, member: Network) -> Classifier:
        """Return a member as an independent module in evaluation mode, with copies of its weights.

        Its batch-norm statistics are those of a new module; they must be reestimated from images before it is used.

        Raises:
            NetworkError: It is not a member.
        """
        model = _make(member, self._device)
        weights = {name: value.clone() for name, value in self.slices(member).items()}
        model.load_state_dict(model.state_dict() | weights, assign=True)
        return model.eval()

    def _not_a_member(self, network: Network, what: str) -> NetworkError:
        return NetworkError(
            f"{network.name} is not a member of the supernet around {self.corners[0].name}: it has {what}; give a "
            "network of the same space"
        )

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _shared_name(self, member: Network, name: str) -> str:
        """Return the supernet's name of a parameter or buffer of a built member."""
        number = tree.stage_number(name)
        if number is None:
            return name
        inner = name.removeprefix(f"{tree.stage_path(name)}.")
        key = _key(number, member.stages[number].block)
        if inner.startswith(_PROJECTION) and key in self.projections:
            return f"projections.{key}.{inner.removeprefix(_PROJECTION)}"
        return f"stages.{key}.{inner}"


class _Member(nn.Module):
    """Runs members; it is a module so that activation checkpointing can wrap it."""

    def forward(self, images: Tensor, member: Network, values: Mapping[str, Tensor]) -> Tensor:
        """Return the logits ``[N, classes]`` of a member with these parameters, and perhaps buffers, in training."""
        logits: Tensor = functional_call(
            _without_weights(member, images.device), dict(values), (images,), tie_weights=False
        )
        return logits


@lru_cache(maxsize=REMEMBERED)
def _without_weights(member: Network, device: torch.device) -> Classifier:
    """Return the cached module of a member; its batch-norm statistics are never read."""
    return _make(member, device)


def _make(member: Network, device: torch.device) -> Classifier:
    """Return a member's module in training mode with buffers, but without memory for its parameters."""
    with torch.device("meta"):
        model = build(member)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, value in list(module.named_buffers()):
                setattr(module, name, torch.empty_like(value, device=device))
            module.reset_running_stats()
    return model


def _slice(whole: Tensor, shape: torch.Size) -> Tensor:
    """Return the first outputs and inputs of a weight, and the center of its kernel."""
    for dimension, (held, needed) in enumerate(zip(whole.shape, shape, strict=True)):
        if needed < held:
            # Dimensions 0 and 1 are channels, 2 and 3 the kernel: a 3x3 kernel is the center of a 5x5 one.
            whole = whole.narrow(dimension, (held - needed) // 2 if dimension > 1 else 0, needed)
    return whole


def _key(number: int, block: Block) -> str:
    """Return the name of the module shared by blocks of a kind; blocks that lack convolutions have their own."""
    kind: str = block.kind
    if isinstance(block, MBConv | FusedMBConv) and block.expansion == 1:
        kind += "_without_expansion"
    if isinstance(block, UniversalBottleneck):
        kernels = (("start", block.start), ("kernel", block.kernel))
        kind += "".join(f"_without_{name}" for name, kernel in kernels if kernel is None)
    return f"{number}_{kind}"


def _shared_fields(network: Network) -> tuple[object, ...]:
    """Return the fields that all members share."""
    strides = tuple(stage.stride for stage in network.stages)
    return network.stem, strides, network.head, network.classes, network.padding, network.norm


_PROJECTION = f"blocks.0.{tree.SHORTCUT}."
"""Path of the projection in the first block of a ResNet stage, relative to the stage."""


def _projects(stage: nn.Module) -> bool:
    """Return whether the first block of a ResNet stage projects its input."""
    return any(name.startswith(_PROJECTION) for name, _ in stage.named_parameters())


def _projection(corner: Network, number: int) -> nn.Module:
    """Return a projection for members whose widths differ where those of the corner agree.

    It is built behind an input that is one channel wider than in the corner, so that the shapes differ and the block
    gets a projection; no member reads the extra channel.
    """
    before = corner.stem if number == 0 else corner.stages[number - 1]
    wider = before.replace(width=before.width + 1)
    stages = (*corner.stages[: number - 1], wider, *corner.stages[number:]) if number else corner.stages
    changed = corner.replace(**{"stages": stages} if number else {"stem": wider})
    return build(changed).stages[number].get_submodule(_PROJECTION.removesuffix("."))


def _random() -> float:
    return float(torch.rand((), dtype=torch.float64))
