"""Programs of the coordinator and the workers in tests that kill a search repeatedly."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from triscale.families import get
from triscale.network.cost import count_network
from triscale.search.coefficients.grid import Candidates, Grid, find_candidates
from triscale.search.shape import ScaledNetwork, realized
from triscale.search.study.ledger import open_ledger
from triscale.search.study.study import Study
from triscale.search.study.trial import Job, Proxy, Score

BASELINE = "efficientnet_b0"
NAME = "coefficients"


def proxy(seeds: int) -> Proxy:
    return Proxy(epochs=9, images=1000, seeds=tuple(range(seeds)))


def candidates(number: int) -> Candidates:
    return find_candidates(get(BASELINE), Grid(number=number))


def describe(job: Job) -> ScaledNetwork:
    """Return the description of a job for the ledger."""
    baseline, counted = get(BASELINE), count_network(job.network)
    return ScaledNetwork(
        network=job.network,
        ratio=counted.macs / count_network(baseline).macs,
        realized=realized(baseline, job.network),
        macs=counted.macs,
        params=counted.params,
    )


def accuracy(job: Job) -> float:
    """Return a number that depends only on network, seed and epochs."""
    from search.surfaces import Surface

    surface = Surface(get(BASELINE), 4)
    surface.reached[job.key] = job.start
    return surface.train([job])[0].accuracy


def work(job: Job, folder: Path, *, log: Path, seconds: float) -> Score:
    """Pretend to train: an epoch takes a while, is logged, and then saved."""
    saved = folder / "epochs"
    reached = int(saved.read_text()) if saved.is_file() else 0
    assert reached >= job.start
    for epoch in range(reached, job.stop):
        time.sleep(seconds)
        with log.open("a") as lines:
            lines.write(f"{job.key} {epoch}\n")
        aside = folder / "epochs.part"
        aside.write_text(str(epoch + 1))
        aside.replace(saved)
    return Score(accuracy(job), 0.005)


def main(folder: Path, place: str, number: int, seeds: int, seconds: float) -> None:
    """Search in a folder; ``place`` is a file's name in it, or the address of a server that several machines share."""
    from triscale.search.coefficients.methods import search_halving

    shared = "://" in place
    settings: dict[str, object] = {"number": number, "seeds": seeds}
    with open_ledger(place if shared else folder / place, NAME, settings, describe, grace=10) as ledger:
        study = Study(
            ledger, folder / "trials", partial(work, log=folder / "log", seconds=seconds), workers=2, max_deaths=1000
        )
        search_halving(candidates(number), proxy(seeds), study.evaluate).save(folder / f"found-{os.getpid()}.json")


if __name__ == "__main__":
    from search.coordinator import main as importable  # so that workers can import what they are sent

    importable(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
