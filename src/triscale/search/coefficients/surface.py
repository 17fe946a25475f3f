"""Smooth responses of the error to depth, width and resolution: two forms, and how they are fitted."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.optimize import least_squares

from triscale.search.shape import Array

MIN_ERROR = 1e-4
MIN_EXPONENT, MAX_EXPONENT = 0.02, 3.0


class Form(Protocol):
    """A family of smooth functions of ``[n, k]`` octaves with values ``[n]``, errors from 0 to 1."""

    name: str

    def fit(self, points: Array, errors: Array) -> Array:
        """Return the coefficients of the least squares."""

    def predict(self, coefficients: Array, points: Array) -> Array:
        """Return the errors at some points."""


class Quadratic:
    """The logarithm of the error as a polynomial of second degree in the octaves."""

    name = "quadratic"

    def fit(self, points: Array, errors: Array) -> Array:
        """Return the coefficients: 1, each octave, each product of two of them."""
        logs = np.log(np.maximum(errors, MIN_ERROR))
        # A residual of the logarithm counts as often as the error is large, so that residuals of the error are least.
        weights = errors / errors.mean()
        found: Array = np.linalg.lstsq(quadratic_terms(points) * weights[:, None], logs * weights, rcond=None)[0]
        return found

    def predict(self, coefficients: Array, points: Array) -> Array:
        """Return the errors at some points."""
        found: Array = np.exp(quadratic_terms(points) @ coefficients)
        return found


class Power:
    """A sum of power laws and a floor: ``c + sum a_i m_i^-p_i`` with ``m_i = 2^octave``, all of them at least 0."""

    name = "power"

    def fit(self, points: Array, errors: Array) -> Array:
        """Return c, the k factors and the k exponents."""
        count = points.shape[1]
        middle = float(np.median(errors))
        begin = np.concatenate([[middle / 2], np.full(count, middle / (2 * count)), np.full(count, 0.5)])
        low = np.concatenate([np.zeros(1 + count), np.full(count, MIN_EXPONENT)])
        high = np.concatenate([np.full(1 + count, 1.0), np.full(count, MAX_EXPONENT)])

        def residuals(coefficients: Array) -> Array:
            return self.predict(coefficients, points) - errors

        def slopes(coefficients: Array) -> Array:
            factors, exponents = coefficients[1 : 1 + count], coefficients[1 + count :]
            powers = 2.0 ** (-points * exponents)
            return np.hstack([np.ones((len(points), 1)), powers, -np.log(2) * points * powers * factors])

        found: Array = least_squares(residuals, np.clip(begin, low, high), jac=slopes, bounds=(low, high)).x
        return found

    def predict(self, coefficients: Array, points: Array) -> Array:
        """Return the errors at some points."""
        count = points.shape[1]
        factors, exponents = coefficients[1 : 1 + count], coefficients[1 + count :]
        found: Array = coefficients[0] + (2.0 ** (-points * exponents)) @ factors
        return found


FORMS: tuple[Form, ...] = (Power(), Quadratic())


def left_out(form: Form, points: Array, errors: Array) -> Array:
    """Return by how much each network's error lies above a fit to all the others ``[n]``."""
    everyone = np.arange(len(points))
    missed = []
    for index in everyone:
        others = everyone != index
        coefficients = form.fit(points[others], errors[others])
        missed.append(errors[index] - form.predict(coefficients, points[index : index + 1])[0])
    return np.array(missed)


def root_mean_square(values: Array) -> float:
    """Return the root of the mean of the squares."""
    return float(np.sqrt(np.mean(np.square(values))))


def num_coefficients(form: Form, dimensions: int) -> int:
    """Return how many coefficients a form has."""
    match form.name:
        case "power":
            return 1 + 2 * dimensions
        case _:
            return 1 + dimensions + dimensions * (dimensions + 1) // 2


def quadratic_terms(points: Array) -> Array:
    """Return 1, each column and each product of two columns of ``[n, k]`` points."""
    count = points.shape[1]
    products = [points[:, i] * points[:, j] for i in range(count) for j in range(i, count)]
    return np.stack([np.ones(len(points)), *points.T, *products], axis=1)
