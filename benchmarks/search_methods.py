"""Measure how often each method of the coefficient search finds the best candidate, on known accuracy surfaces.

Run with: python benchmarks/search_methods.py [--surfaces 50]

The surfaces are those of tests/search/surfaces.py: three random kinds, with noise of 0.4 points between seeds. A choice
is a success if its true accuracy is within 0.3 points of the best candidate's, which three seeds cannot resolve. The
defaults of the design were chosen on surfaces 0 to 49; this benchmark starts at 999.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from search.surfaces import KINDS, TIE, Surface
from triscale.families import get
from triscale.scaling.apply import scale
from triscale.search.coefficients.grid import Candidates, Grid, find_candidates
from triscale.search.coefficients.methods import search_grid, search_halving
from triscale.search.coefficients.response import search_response
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.study.trial import Proxy

BASELINES = ("efficientnet_b0", "efficientnet_b0@32", "mobilenet_v2", "resnet50")
PROXY = Proxy(epochs=9, images=1000, seeds=(0, 1, 2))

SAMPLES = 100

Method = Callable[[Candidates, Surface], CoefficientSearchResult]
METHODS: dict[str, Method] = {
    "grid": lambda candidates, surface: search_grid(candidates, PROXY, surface.train),
    "halving": lambda candidates, surface: search_halving(candidates, PROXY, surface.train),
    "response": lambda candidates, surface: search_response(candidates, PROXY, surface.train, samples=SAMPLES),
}


class Coverage:
    """Coverage of the 95% intervals of a response."""

    def __init__(self) -> None:
        self.inside: dict[str, list[bool]] = {}

    def add(self, candidates: Candidates, surface: Surface, result: CoefficientSearchResult) -> None:
        """Compare one result with the truth."""
        best = max(candidates.candidates, key=lambda candidate: surface.truth(candidate.network))
        assert result.interval is not None
        for name in ("alpha", "beta", "gamma"):
            low, high = getattr(result.interval.low, name), getattr(result.interval.high, name)
            self.inside.setdefault(name, []).append(low <= getattr(best.law, name) <= high)
        tied = {standing.network for standing in result.standings if standing.tied}
        self.inside.setdefault("best among the ties", []).append(best.network.name in tied)
        for forecast in result.forecast:
            truth = surface.truth(scale(surface.baseline, result.law.at(forecast.phi)))
            self.inside.setdefault(f"phi {forecast.phi:g}", []).append(forecast.low <= truth <= forecast.high)

    def __str__(self) -> str:
        return ", ".join(f"{name} {np.mean(inside):.0%}" for name, inside in self.inside.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfaces", type=int, default=50)
    parser.add_argument("--first", type=int, default=999, help="number of the first one, a multiple of 3")
    arguments = parser.parse_args()
    surfaces, numbers = arguments.surfaces, range(arguments.first, arguments.first + arguments.surfaces)
    print(f"{surfaces} random surfaces a baseline from number {arguments.first} on; 3 seeds, 9 epochs; a row:", end=" ")
    print("successes, mean loss of accuracy in points,")
    print("training compute relative to the grid's; the same successes by kind of surface;")
    print("last, how often the response's 95% intervals held the best law's coefficients and the accuracy at each phi")
    print(
        f"{'baseline':<20} {'method':<9} {'success':>8} {'loss':>6} {'compute':>8}   "
        + "  ".join(k.__name__ for k in KINDS)
    )
    for name in BASELINES:
        baseline = get(name)
        candidates = find_candidates(baseline, Grid())
        grid = 0
        coverage = Coverage()
        for method, search in METHODS.items():
            losses, spent, unfit = [], 0, []
            for number in numbers:
                surface = Surface(baseline, number)
                result = search(candidates, surface)
                losses.append(surface.loss(candidates, result.network))
                spent = result.training_macs
                unfit.append(result.response is not None and not result.response.fits)
                if method == "response":
                    coverage.add(candidates, surface, result)
            grid = grid or spent
            hits = np.array(losses) <= TIE
            kinds = "  ".join(
                f"{hits[k :: len(KINDS)].mean():>{len(kind.__name__)}.0%}" for k, kind in enumerate(KINDS)
            )
            row = f"{name:<20} {method:<9} {hits.mean():>8.0%} {100 * np.mean(losses):>6.2f} {spent / grid:>7.0%}"
            print(f"{row}    {kinds}", flush=True)
            if any(unfit):
                others = 100 * np.mean(np.array(losses)[~np.array(unfit)])
                print(f"{name:<20} {sum(unfit)} times it said that no form fits; mean loss of the others {others:.2f}")
        chance = [
            np.mean([surface.loss(candidates, one.network) <= TIE for one in candidates.candidates])
            for surface in (Surface(baseline, number) for number in numbers)
        ]
        print(f"{name:<20} {'by chance':<9} {np.mean(chance):>8.0%}   of {len(candidates.candidates)} candidates")
        print(f"{name:<20} of the response: {coverage}", flush=True)


if __name__ == "__main__":
    main()
