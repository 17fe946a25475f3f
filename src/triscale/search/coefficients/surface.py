"""Response surfaces: two parametric forms of the error in depth, width and resolution, and how they are fitted."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.optimize import least_squares

from triscale.search.shape import Array

MIN_ERROR = 1e-4
MIN_EXPONENT, MAX_EXPONENT = 0.02, 3.0


class Form(Protocol):
    """A parametric family of smooth functions from octaves ``[n, k]`` to errors ``[n]``, from 0 to 1."""

    name: str

    def fit(self, points: Array, errors: Array) -> Array:
        """Return the least-squares coefficients."""

    def predict(self, coefficients: Array, points: Array) -> Array:
        """Return the predicted errors ``[n]`` at points ``[n, k]``."""


class Quadratic:
    """The logarithm of the error as a quadratic polynomial in the octaves.

    Example:
        >>> octaves = np.linspace(-1, 1, 5)[:, None]
        >>> form = Quadratic()
        >>> coefficients = form.fit(octaves, np.exp(-1 - octaves[:, 0]))
        >>> np.round(form.predict(coefficients, np.zeros((1, 1))), 4).tolist()
        [0.3679]
    """

    name = "quadratic"

    def fit(self, points: Array, errors: Array) -> Array:
        """Return the coefficients of the constant, each octave and each product of two octaves."""
        logs = np.log(np.maximum(errors, MIN_ERROR))
        # d log(e) = de / e: weighting by the error turns residuals of the logarithm into residuals of the error.
        weights = errors / errors.mean()
        coefficients: Array = np.linalg.lstsq(quadratic_terms(points) * weights[:, None], logs * weights, rcond=None)[0]
        return coefficients

    def predict(self, coefficients: Array, points: Array) -> Array:
        """Return the errors at some points."""
        errors: Array = np.exp(quadratic_terms(points) @ coefficients)
        return errors


class Power:
    """A floor plus power laws: ``c + sum a_i m_i^-p_i`` with ``m_i = 2^octave`` and nonnegative coefficients."""

    name = "power"

    def fit(self, points: Array, errors: Array) -> Array:
        """Return c, the k factors ``a`` and the k exponents ``p``."""
        count = points.shape[1]
        middle = float(np.median(errors))
        begin = np.concatenate([[middle / 2], np.full(count, middle / (2 * count)), np.full(count, 0.5)])
        low = np.concatenate([np.zeros(1 + count), np.full(count, MIN_EXPONENT)])
        high = np.concatenate([np.full(1 + count, 1.0), np.full(count, MAX_EXPONENT)])

        def residuals(coefficients: Array) -> Array:
            return self.predict(coefficients, points) - errors

        def slopes(coefficients: Array) -> Array:
            # Jacobian: d/dc = 1, d/da_i = m_i^-p_i, d/dp_i = -ln(m_i) a_i m_i^-p_i.
            factors, exponents = coefficients[1 : 1 + count], coefficients[1 + count :]
            powers = 2.0 ** (-points * exponents)
            return np.hstack([np.ones((len(points), 1)), powers, -np.log(2) * points * powers * factors])

        best: Array = least_squares(residuals, np.clip(begin, low, high), jac=slopes, bounds=(low, high)).x
        return best

    def predict(self, coefficients: Array, points: Array) -> Array:
        """Return the errors at some points."""
        count = points.shape[1]
        factors, exponents = coefficients[1 : 1 + count], coefficients[1 + count :]
        errors: Array = coefficients[0] + (2.0 ** (-points * exponents)) @ factors
        return errors


FORMS: tuple[Form, ...] = (Power(), Quadratic())


def leave_one_out(form: Form, points: Array, errors: Array) -> Array:
    """Return leave-one-out residuals ``[n]``: each error minus the prediction of a fit to all others."""
    everyone = np.arange(len(points))
    missed = []
    for index in everyone:
        others = everyone != index
        coefficients = form.fit(points[others], errors[others])
        missed.append(errors[index] - form.predict(coefficients, points[index : index + 1])[0])
    return np.array(missed)


def root_mean_square(values: Array) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def num_coefficients(form: Form, dimensions: int) -> int:
    """Return the number of coefficients of a form.

    Example:
        >>> [num_coefficients(form, 3) for form in FORMS]
        [7, 10]
    """
    match form.name:
        case "power":
            return 1 + 2 * dimensions
        case _:
            return 1 + dimensions + dimensions * (dimensions + 1) // 2


def quadratic_terms(points: Array) -> Array:
    """Return the design matrix of a quadratic: 1, each column and each product of two columns of points ``[n, k]``."""
    count = points.shape[1]
    products = [points[:, i] * points[:, j] for i in range(count) for j in range(i, count)]
    return np.stack([np.ones(len(points)), *points.T, *products], axis=1)
