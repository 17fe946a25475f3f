"""Compare the methods of the coefficient search on real images, from two finished searches of the same request.

Run with: python benchmarks/search_evidence.py GRID RESPONSE

GRID is the folder of ``triscale search coefficients ... --method grid``, RESPONSE the same with ``--method response``.
The grid trained every candidate, so it gives the accuracy of any method's choice. Halving is replayed from trainings of
the grid: the history of a candidate that is stopped early is bitwise the beginning of the full history.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.train import read_history
from triscale.search.coefficients.grid import Candidates
from triscale.search.coefficients.methods import search_halving
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.study.standing import means_and_errors
from triscale.search.study.trial import Job, Score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("response", type=Path)
    arguments = parser.parse_args()
    grid = CoefficientSearchResult.load(arguments.grid / "coefficients.json")
    response = CoefficientSearchResult.load(arguments.response / "coefficients.json")
    assert (grid.baseline, grid.grid, grid.proxy) == (response.baseline, response.grid, response.proxy)
    candidates = Candidates.load(arguments.response / "candidates.json")

    def replay(jobs: Sequence[Job]) -> list[Score]:
        histories = [read_history(RunFolder(arguments.grid / "trials" / job.key)) for job in jobs]
        return [Score(history[job.stop - 1].val_top1) for history, job in zip(histories, jobs, strict=True)]

    halving = search_halving(candidates, grid.proxy, replay)
    standings = {standing.network: standing for standing in grid.standings}
    scores = _by_candidate(grid)
    _, errors, freedom = means_and_errors([[Score(value) for value in values] for values in scores.values()])
    accuracies = np.array([standing.accuracy for standing in grid.standings])
    proxy = grid.proxy
    print(
        f"{grid.baseline}: {len(standings)} candidates, {grid.grid.ratio:g}x its MACs within {grid.grid.tolerance:.0%}"
    )
    print(f"each trained for {proxy.epochs} epochs of {proxy.images} images with seeds {proxy.seeds}")
    print(
        f"accuracies of the grid {accuracies.min():.2%} to {accuracies.max():.2%}, mean {accuracies.mean():.2%}; "
        f"standard error {errors[0]:.2%} with {freedom:g} degrees of freedom; {len(grid.ties)} tie with the best"
    )
    print(f"\n{'method':<9} {'law':<34} {'in the grid':>11} {'behind best':>11} {'told from it':>12} {'compute':>8}")
    for result in (grid, halving, response):
        chosen = standings[result.network.name]
        behind = 100 * (accuracies.max() - chosen.accuracy)
        distinguished = "" if chosen is grid.standings[0] else "no" if chosen.tied else "yes"
        share = result.training_macs / grid.training_macs
        named = f"{result.method:<9} {result.law!s:<34}"
        print(f"{named} {chosen.accuracy:>11.2%} {behind:>4.2f} points {distinguished:>12} {share:>8.0%}")
    chance = 100 * (accuracies.max() - accuracies.mean())
    print(f"{'by chance':<9} {'':<34} {accuracies.mean():>11.2%} {chance:>4.2f} points")
    if response.response is not None:
        predicted = np.array([standing.accuracy for standing in response.standings])
        measured = np.array([standings[standing.network].accuracy for standing in response.standings])
        print(
            f"\nthe response ({response.response.form}, {response.response.networks} networks, {len(response.trials)} "
            f"trainings) missed networks left out by {100 * response.response.leave_one_out_rms:.2f} points; it "
            f"predicted the candidates' accuracies {100 * (predicted - measured).mean():+.2f} points too high, "
            f"correlation {np.corrcoef(predicted, measured)[0, 1]:.2f}"
        )
    if response.interval is not None:
        print(f"bootstrap interval of its law: {response.interval.low} to {response.interval.high}")
    print("\nall candidates, by the grid")
    for standing in grid.standings:
        seeds = " ".join(f"{100 * value:5.2f}" for value in scores[standing.network])
        tied = "tied" if standing.tied else ""
        print(f"  {standing.law!s:<34} x{standing.ratio:.3f}  {standing.accuracy:.2%}  ({seeds}) {tied}")


def _by_candidate(result: CoefficientSearchResult) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {}
    for trial in result.trials:
        scores.setdefault(trial.network, []).append(trial.accuracy)
    return scores


if __name__ == "__main__":
    main()
