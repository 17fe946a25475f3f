"""Published figures of published networks against ours."""

from __future__ import annotations

import json

import pytest

from triscale.cli.app import main
from triscale.families import names
from triscale.families.census import CensusEntry, census, census_table, rounds_to

ENTRIES = census()


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=lambda entry: f"{entry.row.name}@{entry.row.resolution}-{entry.row.source}"
)
def test_figures_agree_with_those_published_or_the_row_says_why_not(entry: CensusEntry):
    assert entry.agrees == (not entry.row.differs)


def test_census_has_more_than_100_networks_and_all_of_ours():
    assert len({(entry.row.name, entry.row.resolution) for entry in ENTRIES}) >= 100
    assert {entry.row.name for entry in ENTRIES} >= set(names())
    assert sum(entry.agrees for entry in ENTRIES) == 116


def test_rows_of_torchvision_match_its_metadata():
    torchvision = pytest.importorskip("torchvision")
    from triscale.weights.sources import SOURCES

    theirs = {}
    for name, architecture in SOURCES["torchvision"].architectures.items():
        ours = architecture.base if architecture.is_base else name
        for weights in torchvision.models.get_model_weights(name):
            (pixels,) = weights.transforms().crop_size
            theirs[ours, pixels] = (str(weights.meta["num_params"]), f"{weights.meta['_ops']:.3f}G")
    rows = [row for row in census_table().rows if row.source == "torchvision"]
    assert len(rows) > 40
    for row in rows:
        assert theirs[row.name, row.resolution] == (row.params, row.macs)


def test_every_source_is_used_and_every_difference_is_a_clause():
    table = census_table()
    assert {row.source for row in table.rows} == table.sources.keys()
    assert all(row.differs[:1].islower() for row in table.rows if row.differs)


@pytest.mark.parametrize(
    ("figure", "published", "agrees"),
    [
        (386_499_999, "386M", True),
        (386_500_001, "386M", False),
        (391_000_000, "0.39G", True),
        (395_100_000, "0.39G", False),
        (12, "12", True),
        (13, "12", False),
    ],
)
def test_figures_agree_if_they_round_to_the_published_digits(figure, published, agrees):
    assert rounds_to(figure, published) == agrees


def test_list_prints_the_census(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    main(["list", "--census"])
    printed = capsys.readouterr().out
    assert "115 networks, 116 of 122 rows agree" in " ".join(printed.split())
    assert "efficientnet_b4 (efficientnet): the released network has 4.39G MACs" in printed
    main(["list", "--census", "--json"])
    found = json.loads(capsys.readouterr().out)
    row = next(row for row in found["networks"] if row["name"] == "resnetrs420")
    assert (row["params"], row["published_params"], row["agrees"]) == (191891656, "191.89M", True)
    assert found["sources"]["pycls"].startswith("Radosavovic")
