"""Readers of files and requests from outside read any bytes, or refuse them with an error of their own."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, accepts
from sizes import size

FOUND = Path(__file__).parent / "found"
INPUTS = size(150, 20_000)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name):
    target = TARGETS[name]
    assert any(accepts(target, seed) for seed in target.seeds())


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_inputs_that_once_failed_are_refused(path):
    assert not accepts(TARGETS[path.parent.name.replace("_", " ")], path.read_bytes())


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Bytes of a seed, of which some are changed, left out, repeated or replaced by part of another seed."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        end = min(len(content), start + draw(st.integers(0, 8)))
        match draw(st.sampled_from(("replace", "remove", "repeat", "splice", "cut"))):
            case "replace":
                content[start:end] = draw(st.binary(max_size=8))
            case "remove":
                del content[start:end]
            case "repeat":
                content[start:start] = content[start:end] * draw(st.integers(1, 40))
            case "splice":
                other = draw(st.sampled_from(seeds))
                content[start:] = other[min(start, len(other)) :]
            case "cut":
                del content[start:]
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_are_read_or_refused(name):
    target = TARGETS[name]

    @settings(max_examples=INPUTS, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(target.seeds()))
    def check(content: bytes) -> None:
        accepts(target, content)

    check()
