"""Tests of the XLA engine, on eight simulated devices of this CPU; skipped where JAX is not installed."""

import os

import pytest

# Read when JAX starts, which no other conftest does.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

try:
    import jax  # noqa: F401
except ImportError:
    # The files import JAX; test_jax_installed.py remains, and is skipped with the reason.
    collect_ignore_glob = ["test_xla_*.py"]


@pytest.fixture(scope="session", autouse=True)
def started():
    """Start the engine as a command does; compiled functions are kept in the cache folder of the tests."""
    from triscale.training.distributed.group import ALONE
    from triscale.training.engine import start_engine

    start_engine("xla", "cpu", ALONE)


@pytest.fixture(scope="session")
def small():
    """A network that compiles in seconds."""
    from triscale.network.spec import BatchNorm, Head, MBConv, Network, Stage, Stem

    return Network(
        name="small",
        stem=Stem(width=8, max_pool=True),
        stages=(Stage(block=MBConv(expansion=2, kernel=3, se_ratio=0.25), width=8, repeats=2, stride=2),),
        head=Head(width=16),
        resolution=16,
        classes=3,
        dropout=0.1,
        drop_path=0.2,
        norm=BatchNorm(eps=1e-3, momentum=0.1),
    )


@pytest.fixture(scope="session")
def certain(small):
    """The same without dropout and stochastic depth, whose numbers differ between the engines."""
    return small.replace(dropout=0.0, drop_path=0.0)
