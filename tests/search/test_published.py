"""Tables 2, 3 and 7 of the paper compared with exact costs."""

from __future__ import annotations

import pytest

from triscale.search.coefficients.published_coefficients import (
    TABLE_2,
    TABLE_3,
    TABLE_7,
    CheckedRow,
    check,
    check_published,
)

# Exact figures as counted independently in closed form, and cross-checked with published parameter counts.
MACS = {
    "efficientnet_b0": 385_814_752,
    "efficientnet_b4": 4_393_771_024,
    "efficientnet_b7": 37_745_884_192,
    "mobilenet_v1": 568_740_352,
    "mobilenet_v2": 300_774_272,
    "resnet50": 4_089_184_256,
}
BILLIONS = {
    "mobilenet_v1 w=2": 2.216,
    "mobilenet_v1 r=2": 2.272,
    "mobilenet_v1 d=1.4 w=1.2 r=1.3": 2.24,
    "mobilenet_v2 d=4": 1.220,
    "mobilenet_v2 w=2": 1.137,
    "mobilenet_v2 r=2": 1.199,
    "mobilenet_v2 compound": 1.284,
    "resnet50 d=4": 14.571,
    "resnet50 w=2": 16.117,
    "resnet50 r=2": 16.351,
    "resnet50 compound": 16.63,
    "efficientnet_b0 d=4": 1.575,
    "efficientnet_b0 w=2": 1.450,
    "efficientnet_b0 r=2": 1.538,
    "efficientnet_b0 d=1.4 w=1.2 r=1.3": 1.800,
}
IMPOSSIBLE = {"resnet50 d=4", "resnet50 w=2", "efficientnet_b0 d=4", "efficientnet_b0 w=2", "efficientnet_b0 r=2"}


def test_tables_are_complete():
    assert [len(table) for table in (TABLE_2, TABLE_3, TABLE_7)] == [8, 14, 5]
    assert [row.top1 for row in TABLE_2] == [77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3]
    assert [row.top5 for row in TABLE_2] == [93.3, 94.4, 94.9, 95.7, 96.4, 96.7, 96.8, 97.0]


def test_exact_costs_are_listed_with_published_costs():
    for checked in check_published():
        label = checked.row.label
        if label in MACS:
            assert checked.macs == MACS[label]
        elif label in BILLIONS:
            assert checked.macs / 1e9 == pytest.approx(BILLIONS[label], abs=0.0051 if BILLIONS[label] > 10 else 0.004)
        assert checked.excess == pytest.approx(checked.macs / (float(checked.row.macs[:-1]) * 1e9) - 1)


def test_exactly_the_inconsistent_rows_are_marked():
    assert {checked.row.label for checked in check_published() if not checked.possible} == IMPOSSIBLE


def test_swapped_resnet50_costs_are_consistent():
    depth, width = (row for row in TABLE_3 if row.label in ("resnet50 d=4", "resnet50 w=2"))
    assert check(depth.model_copy(update={"macs": width.macs})).possible
    assert check(width.model_copy(update={"macs": depth.macs})).possible


def test_rounding_of_published_figures_is_tolerated():
    baseline = next(row for row in TABLE_3 if row.label == "mobilenet_v1")
    assert check(baseline).possible
    assert not check(baseline.model_copy(update={"macs": "0.600B"})).possible


def test_row_round_trips():
    checked = check(TABLE_3[8])
    assert CheckedRow.from_json(checked.to_json()) == checked
