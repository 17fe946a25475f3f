"""Output and startup time of the commands that do not train."""

import json
import subprocess
import sys
from pathlib import Path

import triscale as ts
from cli.command import run


def test_list_shows_every_network_with_cost(capsys):
    result = run(capsys, "list")
    assert result.code == 0
    for name in ts.names():
        assert name in result.out
    assert "386M" in result.out


def test_list_json_is_exact(capsys):
    data = json.loads(run(capsys, "list", "--json").out)
    assert data["efficientnet_b0"]["macs"] == 385_814_752
    assert list(data) == list(ts.names())


def test_show_explains_published_coefficients(capsys):
    out = run(capsys, "show", "efficientnet_b3").out
    assert "phi 1.85" in out
    assert "phi 1.91" in out
    assert "phi 2.09" in out
    assert "stages.6" in out


def test_show_of_baseline_has_no_coefficients(capsys):
    assert "PublishedNetwork" not in run(capsys, "show", "efficientnet_b0").out


def test_show_json(capsys):
    data = json.loads(run(capsys, "show", "resnet18", "--json").out)
    assert data["cost"]["params"] == 11_689_512
    assert data["network"]["stem"]["width"] == 64


def test_scale_by_phi_matches_library(capsys):
    data = json.loads(run(capsys, "scale", "efficientnet_b0", "--phi", 1.5, "--json").out)
    expected = ts.scale(ts.get("efficientnet_b0"), ts.EFFICIENTNET.at(1.5))
    assert data["cost"]["macs"] == ts.cost(expected).macs


def test_scaled_network_file_can_be_shown_and_rescaled(capsys, tmp_path):
    out = tmp_path / "network.json"
    assert run(capsys, "scale", "mobilenet_v2", "--budget", "100M", "--classes", 7, "--out", out).code == 0
    assert "7 classes" in run(capsys, "show", out).out
    assert run(capsys, "scale", out, "--depth", 1.5).code == 0


def test_scale_meets_several_limits(capsys):
    arguments = ("scale", "efficientnet_b0", "--budget", "1G", "--budget", "5M params", "--json")
    data = json.loads(run(capsys, *arguments).out)
    assert data["cost"]["macs"] <= 1e9
    assert data["cost"]["params"] <= 5e6
    assert data["fit"]["binding"] == "params"


def test_law_is_read_from_file(capsys, tmp_path):
    ts.Law(alpha=1.3, beta=1.0, gamma=1.2).save(tmp_path / "law.json")
    from_file = run(capsys, "scale", "resnet18", "--phi", 2, "--law", tmp_path / "law.json", "--json").out
    assert from_file == run(capsys, "scale", "resnet18", "--phi", 2, "--law", "1.3,1,1.2", "--json").out


def test_every_command_has_help(capsys):
    for command in ("", "list", "show", "scale", "demo", "fit", "train", "evaluate", "predict", "measure", "export"):
        result = run(capsys, *command.split(), "--help")
        assert result.code == 0
        assert "Usage: triscale" in result.out


def test_version_is_printed(capsys):
    assert run(capsys, "--version").out.strip() == ts.__version__


def test_debug_shows_the_traceback():
    command = [sys.executable, "-m", "triscale", "show", "nothing", "--debug"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "NetworkError" in result.stderr


def test_lines_fit_in_80_columns(capsys):
    for arguments in (("list",), ("show", "efficientnet_b7"), ("scale", "efficientnet_b0", "--budget", "1G")):
        for line in run(capsys, *arguments).out.splitlines():
            assert len(line) <= 80, line


def test_list_and_scale_do_not_import_torch():
    code = (
        "import sys\nfrom triscale.cli import main\n"
        "try:\n    main(['scale', 'efficientnet_b0', '--phi', '1'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'torchvision', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_demo_only_data_writes_data(capsys, tmp_path):
    result = run(capsys, "demo", "--only-data", "--out", tmp_path)
    assert result.out.strip() == str(tmp_path / "digits")
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == ["test", "train"]
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 1797


def test_families_page_matches_list_command(capsys):
    page = (Path(__file__).parent.parent.parent / "docs" / "reference" / "families.md").read_text()
    for line in run(capsys, "list").out.splitlines()[: len(ts.names()) + 1]:
        assert line.rstrip() in page
