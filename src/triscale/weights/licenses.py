"""Licenses of weights, as a user states them. No torch."""

from __future__ import annotations

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from triscale.errors import UserError, WeightsError
from triscale.weights.contract import WeightsContract


def spdx(text: str) -> str:
    """Return an SPDX identifier or expression as SPDX writes it.

    Args:
        text: It in any case; ``LicenseRef-NAME`` is any other license.

    Raises:
        UserError: It is not one.

    Example:
        >>> spdx("apache-2.0"), spdx("mit or licenseref-ours")
        ('Apache-2.0', 'MIT OR LicenseRef-ours')
    """
    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        raise UserError(
            f'the license "{text}" is not an SPDX identifier; give one such as apache-2.0, mit or cc-by-nc-4.0 '
            "(https://spdx.org/licenses), or LicenseRef- and a name for any other license"
        ) from None


def with_license(weights: WeightsContract, text: str) -> WeightsContract:
    """Return the metadata with the license that a user states.

    Args:
        weights: Metadata of a file.
        text: An SPDX identifier or expression.

    Raises:
        UserError: It is not one.
        WeightsError: The file is a published one with another license.
    """
    given = spdx(text).lower()
    if weights.license not in (None, given):
        raise WeightsError(
            f"the license of {weights.title} is {weights.license} as published, not {given}; leave out --license"
        )
    return weights.replace(license=given)
