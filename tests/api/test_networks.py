"""The public functions accept names, files and text wherever they accept an object."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import triscale as ts


def test_names_files_and_objects_give_the_same(tmp_path):
    network = ts.get("mobilenet_v2")
    network.save(tmp_path / "mine.json")
    law = ts.Law(alpha=1.2, beta=1.1, gamma=1.15)
    law.save(tmp_path / "law.json")
    given = ("mobilenet_v2", tmp_path / "mine.json", str(tmp_path / "mine.json"), network)
    assert len({ts.cost(each).macs for each in given}) == 1
    assert len({ts.scale(each, law.at(2)).structure for each in given}) == 1
    budgets = ("600M", 600e6, 600_000_000, ts.Budget(macs=600e6), ts.Budget("600M"))
    laws = ("1.2,1.1,1.15", law, tmp_path / "law.json", ts.EFFICIENTNET)
    fits = [ts.fit_budget(each, law, "600M") for each in given]
    fits += [ts.fit_budget(network, each, "600M") for each in laws]
    fits += [ts.fit_budget(network, budget=each) for each in budgets]
    assert len({fit.network.structure for fit in fits}) == 1


def test_values_by_position():
    assert ts.Law(1.2, 1.1, 1.15) == ts.EFFICIENTNET
    assert ts.Scale(2, resolution=1.5) == ts.Scale(depth=2, resolution=1.5)
    assert ts.Budget("400M, 5M params") == ts.Budget("400M", "5M params") == ts.Budget(macs=400e6, params=5e6)


def test_custom_models_are_accepted(tmp_path, monkeypatch):
    (tmp_path / "own_model.py").write_text(
        "import torch\n"
        "def build(depth, width, classes):\n"
        "    channels = round(16 * width)\n"
        "    body = [torch.nn.Conv2d(channels, channels, 3, padding=1) for _ in range(round(depth))]\n"
        "    pool = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(channels, classes)]\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, channels, 3, 8), *body, *pool)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    one = ts.cost("own_model:build")
    assert one.macs > 0
    fit = ts.fit_budget("own_model:build", budget=one.macs * 3)
    assert one.macs < fit.limits[0].achieved <= one.macs * 3
    assert ts.build("own_model:build")(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ts.cost("resnet51"), "did you mean"),
        (lambda: ts.cost(None), "NoneType is not a network"),
        (lambda: ts.fit_budget("resnet18"), "no budget given; add budget="),
        (lambda: ts.fit_budget("resnet18", budget="lots"), "cannot read the budget"),
        (lambda: ts.fit_budget("resnet18", "lots", "1G"), "cannot read the law"),
        (lambda: ts.fit_budget("resnet18", budget="20ms"), "device profile"),
        (lambda: ts.fit_budget("resnet18", budget=-5), "greater than"),
        (lambda: ts.fit_budget("resnet18", budget="1k"), "too large|smallest"),
        (lambda: ts.Law(0.5, 1, 1), '"alpha": Input should be greater than or equal to 1, given 0.5'),
        (lambda: ts.Law(1, 2, 3, 4), "takes 3 values"),
        (lambda: ts.Law(1, 2, 3, alpha=4), "alpha twice"),
        (lambda: ts.Law(alpah=1, beta=1, gamma=1), 'unknown key "alpah"; did you mean alpha'),
        (ts.Budget, "at least one limit"),
        (lambda: ts.Scale(0), "depth"),
        (lambda: ts.MBConv(6), "give fields by name"),
        (lambda: setattr(ts.get("resnet18"), "resolution", 3), "cannot be changed"),
        (lambda: ts.get("resnet18").replace(resolution="wide"), "resolution"),
        (lambda: ts.Network(name="a"), '"stem" is missing'),
    ],
)
def test_errors_are_one_readable_sentence(call, message):
    with pytest.raises(ts.TriscaleError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.process
def test_torch_is_not_imported():
    code = (
        "import sys, triscale as ts; ts.fit_budget('efficientnet_b0', budget='1G'); ts.cost('resnet18');"
        "ts.scale('resnet18', ts.Scale(2)); assert not {'torch', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
