"""Predictions of a fitted response surface: for all candidates, and for networks held out of the fit."""

from __future__ import annotations

import numpy as np

from triscale.report.search.search_content import SearchContent
from triscale.report.search.search_rows import octaves
from triscale.report.search.ternary import lattice
from triscale.search.coefficients.design import COST_WEIGHTS
from triscale.search.coefficients.grid import DIMENSIONS
from triscale.search.coefficients.result import CoefficientSearchResult, Response
from triscale.search.coefficients.surface import FORMS, Form, leave_one_out
from triscale.search.shape import Array, logs

SHADING_STEPS = 48
"""Steps of the lattice that the response is evaluated on for the shading of the triangle."""
SYMBOLS = {"depth": "d", "width": "w", "resolution": "r"}


def accuracy_at(response: Response, octaves: Array) -> Array:
    """Return the accuracies ``[n]`` predicted by a response for multipliers of depth, width and resolution.

    Args:
        response: The fitted response.
        octaves: Base-2 logarithms of the multipliers, ``[n, 3]``.
    """
    accuracies: Array = 1 - _form(response).predict(np.array(response.coefficients), octaves[:, _active(response)])
    return accuracies


def shading(content: SearchContent) -> tuple[float, ...] | None:
    """Return the predicted accuracies on the lattice of the triangle; None without a response or a cost in MACs."""
    response, grown = content.result.response, octaves(content.candidates)
    if response is None or grown is None:
        return None
    points = np.array(list(lattice(SHADING_STEPS))) * grown / COST_WEIGHTS
    return tuple(float(value) for value in accuracy_at(response, points))


def leave_one_out_predictions(result: CoefficientSearchResult) -> tuple[tuple[float, float], ...]:
    """Return the leave-one-out prediction and the measured accuracy of each trained network."""
    response = result.response
    if response is None:
        return ()
    points = np.array([logs(trial.realized) for trial in result.trials])[:, _active(response)]
    errors = 1 - np.array([trial.accuracy for trial in result.trials])
    predicted = 1 - (errors - leave_one_out(_form(response), points, errors))
    return tuple((float(one), trial.accuracy) for one, trial in zip(predicted, result.trials, strict=True))


def formula(response: Response) -> str:
    """Return a fitted response as a formula in d, w and r."""
    symbols, values = [SYMBOLS[name] for name in response.dimensions], response.coefficients
    if response.form == "power":
        factors, exponents = values[1 : 1 + len(symbols)], values[1 + len(symbols) :]
        parts = [f"{a:.3g} {name}^-{p:.3g}" for a, name, p in zip(factors, symbols, exponents, strict=True)]
        return " + ".join([f"error = {values[0]:.3g}", *parts])
    pairs = [(i, j) for i in range(len(symbols)) for j in range(i, len(symbols))]
    terms = [f"D_{name}" for name in symbols] + [f"D_{symbols[i]} D_{symbols[j]}" for i, j in pairs]
    parts = [
        f"{'-' if value < 0 else '+'} {abs(value):.3g} {term}" for value, term in zip(values[1:], terms, strict=True)
    ]
    return " ".join([f"ln error = {values[0]:.3g}", *parts]) + ", where D_x = log2 x"


def _form(response: Response) -> Form:
    return next(form for form in FORMS if form.name == response.form)


def _active(response: Response) -> list[int]:
    """Return the columns of the dimensions that a response depends on."""
    return [list(DIMENSIONS.values()).index(name) for name in response.dimensions]
