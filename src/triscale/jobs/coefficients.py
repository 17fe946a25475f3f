"""STEP 1 of the paper for any baseline and any images: alpha, beta, gamma from candidates of equal real cost."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from triscale.jobs.networks import totals_of
from triscale.jobs.prepare import for_classes
from triscale.jobs.trainings import SPLIT, Asked, Hands, Trainings, open_study, prepare_split, settings_of
from triscale.jobs.watch import Watcher
from triscale.search.grid import Grid, find_candidates
from triscale.search.methods import search_grid, search_halving
from triscale.search.response import search_response
from triscale.search.trial import Found, Proxy

Method = Literal["grid", "halving", "response"]


class Search(Asked):
    """What was asked of a search for coefficients.

    Candidates are scored on the images that are held out of training, never on those for testing.
    """

    kind_name: ClassVar[str] = "search"

    grid: Grid
    method: Method


def find_coefficients(search: Search, out: Path, watcher: Watcher, hands: Hands) -> Found:
    """Search the coefficients; everything lies in ``out``, and the same request goes on where it stopped.

    ``law.json`` can be given to ``--law``, ``coefficients.json`` holds the whole result, ``trials`` a Run for each
    training.

    Raises:
        UserError: images that cannot be trained on, a grid on which nothing costs what is asked for, or a folder that
            holds something else.
        Interrupted: ``should_stop`` answered true; what has ended is written down.
        JobError: a training that cannot be carried out.
    """
    split = prepare_split(search, out, hands, watcher)
    baseline = for_classes(search.baseline, len(split.classes), search.recipe)
    candidates = find_candidates(baseline, search.grid, totals_of)
    proxy = Proxy(epochs=search.recipe.epochs, images=len(split.train), seeds=search.seeds)
    work = Trainings(search.images, search.recipe, out / SPLIT, str(hands.device), hands.threads).until
    settings = settings_of(search, split)
    with open_study(f"coefficients of {baseline.name}", settings, baseline, work, out, hands, watcher) as study:
        match search.method:
            case "grid":
                found = search_grid(candidates, proxy, study.evaluate)
            case "halving":
                found = search_halving(candidates, proxy, study.evaluate)
            case "response":
                found = search_response(candidates, proxy, study.evaluate, count=totals_of)
    found.law.save(out / "law.json")
    found.save(out / "coefficients.json")
    return found
