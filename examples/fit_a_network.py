"""Fit EfficientNet-B0 to a budget, print the result, and build the network.

Run with: python examples/fit_a_network.py
"""

import torch

import triscale as ts


def main() -> None:
    """Print the fit and the shape of its logits."""
    baseline = ts.get("efficientnet_b0").replace(classes=10)
    fit = ts.fit_budget(baseline, ts.EFFICIENTNET, ts.Budget.of("100M", "2M params"))

    print(f"{baseline.name}: {ts.cost(baseline)}")
    print(f"{fit.network.name}: {ts.cost(fit.network)}, {fit.network.resolution} px")
    for limit in fit.limits:
        print(f"{limit}{' (binding)' if limit.name == fit.binding else ''}")

    model = ts.build(fit.network).eval()
    images = torch.randn(2, 3, fit.network.resolution, fit.network.resolution)
    with torch.inference_mode():
        print(f"logits {tuple(model(images).shape)}")


if __name__ == "__main__":
    main()
