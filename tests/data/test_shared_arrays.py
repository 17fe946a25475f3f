"""Strings in one block of memory, and batches created on demand."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.data.pipeline.loader import _Tasks
from triscale.data.pipeline.order import batch_slices, epoch_order
from triscale.data.pipeline.shared_arrays import StringArray
from triscale.data.pipeline.workers import DecodeTask


@settings(deadline=None)
@given(st.lists(st.text()))
def test_strings_round_trip(texts):
    columns = StringArray(texts)
    assert len(columns) == len(texts)
    assert [columns[index] for index in range(len(texts))] == texts
    assert list(pickle.loads(pickle.dumps(columns))) == texts
    assert columns.num_bytes == sum(len(text.encode()) for text in texts) + 8 * (len(texts) + 1)


def test_names_that_are_not_utf8_round_trip():
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert StringArray([name])[0] == name


@pytest.mark.parametrize("index", [-1, 2])
def test_index_out_of_range_is_rejected(index):
    with pytest.raises(IndexError):
        StringArray(["a", "b"])[index]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 5), st.integers(1, 3))
def test_batches_created_on_demand_equal_a_list(size, batch, first, processes):
    order = epoch_order(size, 1, 2)
    slices = batch_slices(size, batch)
    share = lambda count: slice(0, count, processes)  # noqa: E731
    tasks = _Tasks(order, batch, 2, range(len(slices))[first:], share)
    expected = [DecodeTask(2, order[part].tolist()[::processes]) for part in slices[first:]]
    assert list(tasks) == expected
    assert [tasks[number] for number in range(len(tasks))] == expected
    assert list(tasks[1:]) == expected[1:]
