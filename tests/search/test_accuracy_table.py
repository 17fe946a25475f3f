"""Tables of accuracies: what is read from them is compared with the csv and statistics modules."""

from __future__ import annotations

import csv
import gzip
import math
import random
import statistics
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import SearchError
from triscale.network.cost import count_network
from triscale.search.baseline.accuracy_table import column_of, find_table, read_table
from triscale.search.baseline.options import Choices, Options
from triscale.search.baseline.space import around, make_space

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
ACCEL = DATA / "accel_nasbench.csv.gz"


def rows_of_space(space):
    """Return all samples of a small space as rows of a plain table, without accuracies."""
    return [
        {column_of(choice): choice.options[index] for choice, index in zip(space.free_choices, sample, strict=True)}
        for sample in product(*(range(len(choice.options)) for choice in space.free_choices))
    ]


def write_table(file, rows):
    with (gzip.open if file.suffix == ".gz" else open)(file, "wt", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def read(file, space):
    source, named = find_table(file, space.skeleton)
    assert named is None
    return read_table(source, space)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_rows_of_a_network_are_its_seeds(tiny, tmp_path, suffix):
    space, rng = around(tiny, "tiny", (16, 32)), random.Random(0)
    rows = rows_of_space(space)
    accuracies = [[round(rng.random(), 4) for _ in range(3)] for _ in rows]
    file = write_table(
        tmp_path / f"own{suffix}",
        [{"id": seed} | row | {"accuracy": three[seed]} for seed in range(3)
         for row, three in zip(rows, accuracies, strict=True)],
    )  # fmt: skip
    table = read(file, space)
    assert len(table.pool) == space.size == 32
    for sample, row, three in zip(table.pool, rows, accuracies, strict=True):
        network = space.network(sample)
        assert network.resolution == row["resolution"]
        assert [stage.block.kernel for stage in network.stages] == [row["block0_kernels"], row["block1_kernels"]]
        assert [stage.block.expansion for stage in network.stages] == [
            row["block0_expansions"],
            row["block1_expansions"],
        ]
        score = table.score(network)
        assert score.accuracy == pytest.approx(statistics.mean(three))
        assert score.error == pytest.approx(statistics.stdev(three) / math.sqrt(3))


def test_samples_that_give_the_same_network_are_one_network(tiny, tmp_path):
    # A separable convolution has no expansion: its rows with both expansions are two trainings of one network.
    options = Options(operations=("separable", "mbconv"), kernels=(3,), expansions=(3, 6), se_ratios=(0.0,),
                      skips=("identity",), widths=(1.0,), layers=(0,))  # fmt: skip
    space = make_space("own", tiny, Choices(options=(options, options.model_copy(update={"operations": ("mbconv",)}))))
    rows = rows_of_space(space)
    table = read(
        write_table(tmp_path / "own.csv", [row | {"accuracy": 0.1 * number} for number, row in enumerate(rows)]), space
    )
    assert len(rows) == 8
    assert len(table.pool) == len({space.network(sample).structure for sample in table.pool}) == 6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=16, max_size=16))
def test_percent_is_a_hundredth(tmp_path_factory, tiny, percents):
    space, folder = around(tiny, "tiny"), tmp_path_factory.mktemp("tables")
    rows = rows_of_space(space)
    shares = [row | {"accuracy": value / 100} for row, value in zip(rows, percents, strict=True)]
    hundreds = [row | {"accuracy_percent": value} for row, value in zip(rows, percents, strict=True)]
    assert (
        read(write_table(folder / "a.csv", shares), space).answers
        == read(write_table(folder / "b.csv", hundreds), space).answers
    )


def test_columns_of_single_options_may_be_stated(tiny, tmp_path):
    space = around(tiny, "tiny")
    rows = [{"block0_skips": "identity", "block1_layers": "0.0", "resolution": 16} | row | {"accuracy": 0.5}
            for row in rows_of_space(space)]  # fmt: skip
    assert len(read(write_table(tmp_path / "own.csv", rows), space).pool) == 16
    for changed in ({"block0_skips": "none"}, {"block1_layers": 1}, {"resolution": 32}):
        with pytest.raises(SearchError, match=f"line 2: {next(iter(changed))} is "):
            read(write_table(tmp_path / "own.csv", [rows[0] | changed]), space)


def test_a_changed_table_is_refused(tiny, tmp_path):
    space = around(tiny, "tiny")
    rows = [row | {"accuracy": 0.5} for row in rows_of_space(space)]
    source, _ = find_table(write_table(tmp_path / "own.csv", rows))
    write_table(tmp_path / "own.csv", rows[1:])
    with pytest.raises(SearchError, match="is another table than the search began with"):
        read_table(source, space)


@pytest.mark.skipif(not ACCEL.is_file(), reason="the published table is not part of the repository")
def test_accel_nasbench_is_read_as_its_authors_state_it():
    source, space = find_table(ACCEL)
    table = read_table(source, space)
    with gzip.open(ACCEL, "rt") as lines:
        published = list(csv.DictReader(lines))
    by_blocks = {}
    for row in published:
        blocks = tuple(tuple(int(row[f"block{block}_{name}"]) for name in ("k", "e", "se", "l")) for block in range(7))
        by_blocks.setdefault(blocks, []).append(row)
    assert len(table.pool) == len(by_blocks) == 5125
    for sample in table.pool[:200] + table.pool[-50:]:
        network = space.network(sample)
        blocks = tuple(
            (stage.block.kernel, stage.block.expansion, int(stage.block.se_ratio > 0), stage.repeats)
            for stage in network.stages
        )
        rows = by_blocks[blocks]
        assert table.score(network).accuracy == pytest.approx(statistics.mean(float(row["top1"]) / 100 for row in rows))
        assert (table.score(network).error > 0) == (len(rows) > 1)
        # The number of parameters that the authors counted themselves.
        assert round(count_network(network).params / 1e6, 4) == round(float(rows[0]["params_millions"]), 4)
