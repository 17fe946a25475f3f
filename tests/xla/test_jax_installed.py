"""Skipped with the reason where JAX is missing; the other files of this folder are then left out."""

import pytest

jax = pytest.importorskip("jax", reason="the XLA engine needs JAX: pip install 'triscale[xla]'")


def test_tests_have_eight_devices():
    assert len(jax.devices()) == 8
