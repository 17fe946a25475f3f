"""Scaling laws by name: the paper's, one dimension alone, and what others published, as data with their sources.

What a law gives beyond its points is our continuation, log-linear as between the last two points; the sources state no
rule there. Where a published family does not follow one rule, its law is a table of its members, so that it gives them
to the channel, block and pixel; ``triscale show`` explains members that no law gives.
"""

from __future__ import annotations

from triscale.scaling.law import EFFICIENTNET, Law
from triscale.scaling.piecewise import AnyLaw, LawPoint, PiecewiseLaw
from triscale.scaling.rounding import ScaleRounding

PIXELS = ScaleRounding(resolution_multiple=1)
"""As the released tables, which state sides to the pixel."""


def _table(name: str, rows: tuple[tuple[str, float, float, int], ...], baseline: int, source: str) -> PiecewiseLaw:
    """Return the law of a family that is published as width, depth and pixels of each member, from phi 0."""
    points = (
        LawPoint(phi=phi, depth=depth, width=width, resolution=pixels / baseline, member=member)
        for phi, (member, width, depth, pixels) in enumerate(rows)
    )
    return PiecewiseLaw(name=name, points=tuple(points), rounding=PIXELS, source=source)


# Width, depth, pixels. No single phi gives a member: the authors set the three by hand.
EFFICIENTNET_TABLE = _table(
    "efficientnet-table",
    (
        ("efficientnet_b0", 1.0, 1.0, 224),
        ("efficientnet_b1", 1.0, 1.1, 240),
        ("efficientnet_b2", 1.1, 1.2, 260),
        ("efficientnet_b3", 1.2, 1.4, 300),
        ("efficientnet_b4", 1.4, 1.8, 380),
        ("efficientnet_b5", 1.6, 2.2, 456),
        ("efficientnet_b6", 1.8, 2.6, 528),
        ("efficientnet_b7", 2.0, 3.1, 600),
        ("efficientnet_b8", 2.2, 3.6, 672),
    ),
    224,
    "released EfficientNet code (Tan & Le 2019, arXiv 1905.11946; B8: Xie et al. 2020, arXiv 1911.09665)",
)

# d = s^0.1, w = s^0.4, r = s^0.05 for s times the MACs: 80% of the growth goes to the width. phi = log2(s).
FAST = PiecewiseLaw(
    name="dwr",
    points=(LawPoint(phi=0), LawPoint(phi=1, depth=2**0.1, width=2**0.4, resolution=2**0.05)),
    rounding=ScaleRounding(min_width_ratio=0, depth="nearest", resolution_multiple=4),
    source="fast compound scaling, Dollar, Singh & Girshick 2021, arXiv 2103.06877; rounding of pycls",
)

_EFFICIENTNET_X = "Li et al. 2021, arXiv 2102.05610; tensorflow/tpu, efficientnet_x_builder.py"

LACS_GPU = _table(
    "lacs-gpu",
    (
        ("efficientnet_x_b0", 1.0, 1.0, 224),
        ("efficientnet_x_b1", 1.05, 1.09, 229),
        ("efficientnet_x_b2", 1.13, 1.24, 237),
        ("efficientnet_x_b3", 1.31, 1.63, 255),
        ("efficientnet_x_b4", 1.63, 2.4, 282),
        ("efficientnet_x_b5", 1.94, 3.29, 306),
        ("efficientnet_x_b6", 2.25, 4.28, 328),
        ("efficientnet_x_b7", 2.58, 5.46, 350),
    ),
    224,
    f"LACS for GPUs, {_EFFICIENTNET_X}",
)

# B6 is published with 328 px, less than B5's 332 px, while depth and width grow. A law never reduces a dimension, since
# a budget would have several answers: it gives B6 332 px, and otherwise the members.
LACS_TPU = _table(
    "lacs-tpu",
    (
        ("efficientnet_x_tpu_b0", 1.0, 1.0, 224),
        ("efficientnet_x_tpu_b1", 1.05, 1.09, 229),
        ("efficientnet_x_tpu_b2", 1.13, 1.29, 244),
        ("efficientnet_x_tpu_b3", 1.27, 1.62, 263),
        ("efficientnet_x_tpu_b4", 1.54, 2.38, 299),
        ("efficientnet_x_tpu_b5", 1.96, 2.76, 332),
        ("", 2.75, 3.01, 332),
        ("efficientnet_x_tpu_b7", 3.26, 3.44, 350),
    ),
    224,
    f"LACS for TPUs, {_EFFICIENTNET_X}; B6 with 332 instead of 328 px",
)

# A shrinking rule from EfficientNet-B0: A to E are phi 0 to -4. The stem keeps its width, the head is never narrower.
TINYNET = PiecewiseLaw(
    name="tinynet",
    points=tuple(
        LawPoint(phi=phi, depth=depth, width=width, resolution=pixels / 224, member=f"tinynet_{letter}")
        for phi, letter, width, depth, pixels in (
            (-4, "e", 0.51, 0.6, 106),
            (-3, "d", 0.54, 0.695, 152),
            (-2, "c", 0.54, 0.85, 184),
            (-1, "b", 0.75, 1.1, 188),
            (0, "a", 1.0, 1.2, 192),
        )
    ),
    end=0,
    rounding=ScaleRounding(depth="nearest", resolution_multiple=1, stem="fixed", head="never_narrower"),
    source="Han et al. 2020, arXiv 2010.14819; huawei-noah/Efficient-AI-Backbones",
)

# Repeats of the four stages relative to ResNet-50's, and pixels relative to 160.
RESNET_RS = PiecewiseLaw(
    name="resnet-rs",
    points=tuple(
        LawPoint(
            phi=phi,
            depth=tuple(repeats / first for repeats, first in zip(stages, (3, 4, 6, 3), strict=True)),
            resolution=pixels / 160,
            member=f"resnetrs{layers}",
        )
        for phi, (layers, stages, pixels) in enumerate(
            (
                (50, (3, 4, 6, 3), 160),
                (101, (3, 4, 23, 3), 192),
                (152, (3, 8, 36, 3), 224),
                (200, (3, 24, 36, 3), 256),
                (270, (4, 29, 53, 4), 256),
                (350, (4, 36, 72, 4), 320),
                (420, (4, 44, 87, 4), 320),
            )
        )
    ),
    rounding=ScaleRounding(depth="nearest"),
    source="Bello et al. 2021, arXiv 2103.07579, from ResNet-50 at 160 px",
)

# Repeats and widths of the six stages relative to EfficientNetV2-S; later stages gain more blocks, and the side is
# capped at 480 px. M and L have a seventh stage, which no multiplier adds.
EFFICIENTNET_V2 = PiecewiseLaw(
    name="efficientnet-v2",
    points=tuple(
        LawPoint(
            phi=phi,
            depth=tuple(repeats / first for repeats, first in zip(stages, (2, 4, 4, 6, 9, 15), strict=True)),
            width=tuple(width / first for width, first in zip(widths, (24, 48, 64, 128, 160, 256), strict=True)),
            resolution=pixels / 384,
        )
        for phi, stages, widths, pixels in (
            (0, (2, 4, 4, 6, 9, 15), (24, 48, 64, 128, 160, 256), 384),
            (1, (3, 5, 5, 7, 14, 18), (24, 48, 80, 160, 176, 304), 480),
            (2, (4, 7, 7, 10, 19, 25), (32, 64, 96, 192, 224, 384), 480),
        )
    ),
    rounding=ScaleRounding(depth="nearest", max_resolution=480, head="fixed"),
    source="stages of S, M and L, Tan & Le 2021, arXiv 2104.00298; google/automl, effnetv2_configs.py",
)

# MobileNetV2 at full size, and the two that the authors chose for microcontrollers: width falls first, then resolution,
# and the head with them. RAM is that of the first maps and flash that of the last layers, so depth stays.
MCU = PiecewiseLaw(
    name="mcu",
    points=(
        LawPoint(phi=-2, width=0.3, resolution=80 / 224),
        LawPoint(phi=-1, width=0.35, resolution=144 / 224),
        LawPoint(phi=0),
    ),
    rounding=ScaleRounding(depth="nearest", resolution_multiple=8, stem="scaled", head="scaled"),
    source="MobileNetV2 for microcontrollers, Lin et al. 2020, arXiv 2007.10319",
)

NAMED_LAWS: dict[str, AnyLaw] = {
    "paper": EFFICIENTNET,
    "depth": Law(alpha=2, beta=1, gamma=1),
    "width": Law(alpha=1, beta=2**0.5, gamma=1),
    "resolution": Law(alpha=1, beta=1, gamma=2**0.5),
    **{
        law.name: law
        for law in (FAST, LACS_GPU, LACS_TPU, TINYNET, RESNET_RS, EFFICIENTNET_V2, EFFICIENTNET_TABLE, MCU)
    },
}
"""All laws by name; one unit of phi of the single dimensions nominally doubles the MACs."""

SUMMARIES: dict[str, str] = {
    "paper": "alpha 1.2, beta 1.1, gamma 1.15, of the EfficientNet paper (Tan & Le 2019, arXiv 1905.11946)",
    "depth": "depth alone",
    "width": "width alone",
    "resolution": "resolution alone",
    "dwr": "fast compound scaling: mostly width (Dollar et al. 2021, arXiv 2103.06877)",
    "lacs-gpu": "EfficientNet-X for GPUs: mostly depth (Li et al. 2021, arXiv 2102.05610)",
    "lacs-tpu": "EfficientNet-X for TPUs: width and depth (Li et al. 2021, arXiv 2102.05610)",
    "tinynet": "shrinking only, from phi 0 downward (Han et al. 2020, arXiv 2010.14819)",
    "resnet-rs": "depth by stage and resolution, at fixed width (Bello et al. 2021, arXiv 2103.07579)",
    "efficientnet-v2": "depth and width by stage, up to 480 px (Tan & Le 2021, arXiv 2104.00298)",
    "efficientnet-table": "the published table of EfficientNet-B0 to B8, which is no single law",
    "mcu": "width and resolution for microcontrollers, at fixed depth (Lin et al. 2020, arXiv 2007.10319)",
}
"""What each named law scales, in a phrase."""


def law_argument(law: AnyLaw) -> str:
    """Return a law as an argument of commands: its coefficients or its name.

    Example:
        >>> law_argument(EFFICIENTNET), law_argument(FAST)
        ('1.2,1.1,1.15', 'dwr')
    """
    return f"{law.alpha:g},{law.beta:g},{law.gamma:g}" if isinstance(law, Law) else law.name


def phi_of_member(law: AnyLaw, member: str) -> float | None:
    """Return the phi at which a law has a published network as a point; None if it has not.

    Example:
        >>> phi_of_member(EFFICIENTNET_TABLE, "efficientnet_b3"), phi_of_member(EFFICIENTNET, "efficientnet_b3")
        (3.0, None)
    """
    points = law.points if isinstance(law, PiecewiseLaw) else ()
    return next((point.phi for point in points if point.member == member), None)
