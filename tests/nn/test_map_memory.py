"""Memory of feature maps that is used again."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.network.spec import Network
from triscale.nn import map_memory
from triscale.nn.build import build
from triscale.nn.map_memory import ALIGNMENT, SMALLEST, empty_map, release_map_memory, reusing_map_memory

MEGABYTE = 2**20


def test_freed_map_is_used_again():
    with reusing_map_memory() as memory:
        first = empty_map((2, 1024, 1024), torch.float32)
        address = first.data_ptr()
        view = first[1]
        del first
        assert memory.free_bytes == 0  # the view still uses it
        del view
        assert memory.free_bytes >= 8 * MEGABYTE
        assert empty_map((1024, 1024, 2), torch.float32).data_ptr() == address
        assert empty_map((1024, 1024, 4), torch.bfloat16).data_ptr() == address
        assert empty_map((1024, 1024), torch.float32).data_ptr() != address  # half of it
    assert memory.free_bytes == 0


def test_memory_that_autograd_keeps_is_not_free():
    with reusing_map_memory() as memory:
        maps = empty_map((1024, 1024), torch.float32).fill_(3.0)
        out = torch.ones(1024, 1024, requires_grad=True) * maps
        del maps
        other = empty_map((1024, 1024), torch.float32).fill_(7.0)
        (gradient,) = torch.autograd.grad(out.sum(), [out.grad_fn.next_functions[0][0].variable])
        assert gradient.eq(3).all()
        assert other.eq(7).all()
        del out, other
        gc.collect()
        assert memory.free_bytes >= 8 * MEGABYTE


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([100, 300_000, 500_000]), st.booleans()), max_size=20))
def test_maps_in_use_never_overlap(sizes):
    held, maps = [], None
    with reusing_map_memory():
        for number, (images, values, kept) in enumerate(sizes):
            maps = empty_map((images, values), torch.float32)
            assert maps.shape == (images, values)
            assert maps.data_ptr() % ALIGNMENT == 0
            maps.fill_(number)
            if kept:
                held.append((number, maps))
        del maps
    for number, map_held in held:
        assert map_held.eq(number).all()


def test_blocks_that_are_not_used_for_long_are_returned(monkeypatch):
    monkeypatch.setattr(map_memory, "UNUSED", 3)
    with reusing_map_memory() as memory:
        del_me = empty_map((SMALLEST,), torch.float32)
        del del_me
        before = memory.free_bytes
        for size in (2, 3, 4, 5, 6):
            empty_map((size * SMALLEST,), torch.float32)
        assert memory.free_bytes < before + sum(4 * size * SMALLEST for size in (2, 3, 4, 5, 6))
        assert not any(block.size < 5 * SMALLEST for block, _ in memory._free)


def test_memory_that_has_run_out_is_returned_and_not_kept_again(monkeypatch):
    with reusing_map_memory() as memory:
        empty_map((1024, 1024), torch.float32)
        assert memory.free_bytes
        assert release_map_memory()
        assert not release_map_memory()
        empty_map((1024, 1024), torch.float32)
        assert memory.free_bytes == 0
    with reusing_map_memory() as memory:
        empty_map((1024, 1024), torch.float32)
        monkeypatch.setattr(np, "empty", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(RuntimeError, match="memory"):
            empty_map((2**50,), torch.float32)
        assert memory.free_bytes == 0


@pytest.mark.parametrize("reduced", [False, True])
def test_training_gives_bitwise_the_same(tiny: Network, reduced, monkeypatch):
    monkeypatch.setattr(map_memory, "SMALLEST", 1)

    def step() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = build(tiny).train()
        images = torch.randn(8, 3, 32, 32)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                loss = model(images).float().logsumexp(1).sum()
            loss.backward()
        return [*(value.grad for value in model.parameters()), *model.buffers()]

    plain = step()
    with reusing_map_memory() as memory:
        reused = step()
        assert memory._maps > 10
    assert all(torch.equal(a, b) for a, b in zip(plain, reused, strict=True))
