"""Print the figures of docs/explanation/method.md: the exact cost of the published coefficients and tables.

Run with: python examples/method_figures.py
"""

from __future__ import annotations

import triscale as ts
from triscale.families import FAMILIES
from triscale.families.implied import implied_phi
from triscale.scaling.apply import scale_to

TRIPLES = ((1.2, 1.1, 1.15), (2.0, 1.0, 1.0), (1.0, 1.4, 1.0), (1.0, 1.0, 1.4), (1.1, 1.2, 1.1), (1.05, 1.15, 1.2))

# Baseline, the row of the paper (Tables 3 and 7), depth, width, resolution in pixels.
ROWS = (
    ("mobilenet_v1", ".6B", 1, 1, 224),
    ("mobilenet_v1", "w=2: 2.2B", 1, 2, 224),
    ("mobilenet_v1", "r=2: 2.2B", 1, 1, 448),
    ("mobilenet_v1", "d=1.4 w=1.2 r=1.3: 2.3B", 1.4, 1.2, 288),
    ("mobilenet_v2", ".3B", 1, 1, 224),
    ("mobilenet_v2", "d=4: 1.2B", 4, 1, 224),
    ("mobilenet_v2", "w=2: 1.1B", 1, 2, 224),
    ("mobilenet_v2", "r=2: 1.2B", 1, 1, 448),
    ("mobilenet_v2", "compound: 1.3B", 1.4, 1.2, 288),
    ("resnet50", "4.1B", 1, 1, 224),
    ("resnet50", "d=4: 16.2B", 4, 1, 224),
    ("resnet50", "w=2: 14.7B", 1, 2, 224),
    ("resnet50", "r=2: 16.4B", 1, 1, 448),
    ("efficientnet_b0", ".4B", 1, 1, 224),
    ("efficientnet_b0", "d=4: 1.8B", 4, 1, 224),
    ("efficientnet_b0", "w=2: 1.8B", 1, 2, 224),
    ("efficientnet_b0", "r=2: 1.9B", 1, 1, 448),
    ("efficientnet_b0", "d=1.4 w=1.2 r=1.3: 1.8B", 1.4, 1.2, 291),
    ("efficientnet_b0", "the same, snapped", 1.4, 1.2, 288),
)


def main() -> None:
    """Print three tables."""
    b0 = ts.get("efficientnet_b0")
    base = ts.cost(b0).macs

    print("alpha, beta, gamma   nominal   MACs / B0, side rounded to a pixel   ... snapped")
    for alpha, beta, gamma in TRIPLES:
        law = ts.Law(alpha=alpha, beta=beta, gamma=gamma)
        side = round(b0.resolution * gamma)
        exact = ts.cost(scale_to(b0, depth=alpha, width=beta, resolution=side)).macs / base
        snapped = ts.scale(b0, law.at(1))
        ratio = ts.cost(snapped).macs / base
        print(
            f"{alpha:4.2f}, {beta:4.2f}, {gamma:4.2f}   {law.nominal_growth:7.2f}   {exact:18.2f}x at {side} px"
            f"   {ratio:12.2f}x at {snapped.resolution} px"
        )

    print("\nnetwork            MACs / B0   phi implied by depth, width, resolution")
    for member in FAMILIES["EfficientNet"][1:]:
        phis = implied_phi(member.depth, member.width, member.resolution, ts.EFFICIENTNET, b0.resolution)
        ratio = ts.cost(member.network).macs / base
        shown = "   ".join("-" if phi is None else f"{phi:5.2f}" for phi in phis)
        print(f"{member.name:<18} {ratio:9.2f}   {shown}")

    print("\nbaseline           the paper's row            our exact count")
    for name, row, depth, width, resolution in ROWS:
        macs = ts.cost(scale_to(ts.get(name), depth=depth, width=width, resolution=resolution)).macs
        print(f"{name:<18} {row:<26} {macs / 1e9:.3f}G MACs at {resolution} px")


if __name__ == "__main__":
    main()
