"""A model card says what the records of a run say, is valid for the Hugging Face Hub, and keeps a user's text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from triscale.jobs.core.run import RunFolder
from triscale.jobs.reports.model_card import card_content
from triscale.report.card.card_text import card_text
from triscale.report.card.markdown import escaped, fenced
from triscale.report.card.own_text import options_of, own_texts, place, sealed, with_own_texts
from triscale.results.metrics import load_metrics
from weights_file import write_weights

HINT = "<!-- What you write here is kept when the card is generated again. -->"


@pytest.fixture
def made(trained_run, tmp_path) -> Path:
    return shutil.copytree(trained_run, tmp_path / "run")


def header_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def edit(folder: Path, name: str, **changes) -> None:
    record = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(record | changes))


def test_header_has_the_results_of_the_run(made):
    card = ts.Run.open(made, progress=False).card(license="Apache-2.0").read_text()
    header, metrics = header_of(card), load_metrics(made / "metrics.json")
    assert (header["library_name"], header["pipeline_tag"]) == ("triscale", "image-classification")
    assert header["license"] == "apache-2.0"
    assert "base_model" not in header
    (result,) = header["model-index"][0]["results"]
    assert result["dataset"] == {"type": "imagefolder", "name": "images", "split": "test"}
    values = {one["type"]: one["value"] for one in result["metrics"]}
    assert values == {
        "accuracy": round(metrics.top1, 4), "balanced_accuracy": round(metrics.mean_class_accuracy, 4)
    }  # fmt: skip
    assert f"{metrics.top1_low:.4f} to {metrics.top1_high:.4f}" in result["metrics"][0]["name"]


def test_hugging_face_reads_the_card(made):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    card = hub.ModelCard.load(ts.Run.open(made, progress=False).card(license="mit"))
    metrics = load_metrics(made / "metrics.json")
    assert (card.data.license, card.data.library_name) == ("mit", "triscale")
    found = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert found["accuracy"] == round(metrics.top1, 4)


def test_card_has_counts_per_class_and_split_and_intervals(made):
    card = ts.Run.open(made, progress=False).card().read_text()
    data = json.loads((made / "data.json").read_text())
    for row in data["classes"]:
        assert f"| {row['name']} | {row['train']} | {row['val']} | {row['test']} |" in card
    metrics = load_metrics(made / "metrics.json")
    for row in metrics.per_class:
        (line,) = [
            line for line in card.splitlines() if line.startswith(f"| {row.name} | {row.count} | ") and "to" in line
        ]
        assert line.count("|") == 7
    assert "3 of 3 classes have fewer than 30 test images" in card


def test_card_names_no_folder_of_its_author(made):
    card = ts.Run.open(made, progress=False).card().read_text()
    assert str(made.parent) not in card
    assert str(Path.home()) not in card
    assert str(Path(RunFolder(made).spec.request.images).parent) not in card


def test_classes_that_are_never_recognized_and_imbalance_are_limits(made):
    metrics = json.loads((made / "metrics.json").read_text())
    metrics["per_class"][1] |= {"recall": 0.0, "count": 40}
    (made / "metrics.json").write_text(json.dumps(metrics))
    card = ts.Run.open(made, progress=False).card().read_text()
    name = metrics["per_class"][1]["name"]
    assert f"No test image of these classes is recognized: {name}." in card
    assert f"Classes are imbalanced: {name} has 40 test images" in card


def test_table_of_many_classes_is_folded(made):
    content = card_content(RunFolder(made))
    row = content.run.data.classes[0]
    many = content.run.data.replace(classes=tuple(row.replace(name=f"class {number}") for number in range(21)))
    assert "<summary>All 22 classes</summary>" in card_text(content.replace(run=content.run.replace(data=many)))
    assert "<summary>All" not in card_text(content).replace("<summary>All settings", "")


def test_energy_needs_stated_watts(made):
    opened = ts.Run.open(made, progress=False)
    assert "Not estimated" in opened.card().read_text()
    seconds = sum(epoch.seconds for epoch in opened.history)
    card = opened.card(watts=3.6e9).read_text()  # 1000 kWh a second
    assert f"About {1000 * seconds:.2g} kWh" in card
    assert "About" in opened.card().read_text()  # the watts are kept


def test_licenses_of_weights_are_in_the_card(tiny, tmp_path):
    images = write_classes(tmp_path / "images", 12)
    weights = write_weights(tmp_path / "w.safetensors", tiny, license="cc-by-nc-4.0", hub="who/what")
    trained = ts.train(images, weights=weights, epochs=1, settings={"batch": 8, "min_steps": 1}, out=tmp_path / "a",
                       progress=False)  # fmt: skip
    card = trained.card().read_text()
    header = header_of(card)
    assert (header["base_model"], header["base_model_relation"]) == (["who/what"], "finetune")
    assert "license" not in header
    assert "| timm/tiny | cc-by-nc-4.0 | https://huggingface.co/who/what |" in card
    assert "forbids commercial use" in card
    held = ts.Run.of_weights(weights, out=tmp_path / "b", progress=False).card().read_text()
    assert header_of(held)["license"] == "cc-by-nc-4.0"
    assert "has not been evaluated" in held


def test_text_of_a_user_is_kept_when_the_card_is_generated_again(made):
    file = ts.Run.open(made, progress=False).card(license="mit")
    card = file.read_text().replace(HINT, "Not for *medicine*.\n\nAsk me: a@b.", 1)
    file.write_bytes(card.replace("\n", "\r\n").encode())  # an editor on Windows
    edit(made, "metrics.json", loss=0.123)
    again = ts.Run.open(made, progress=False).card().read_text()
    assert "Not for *medicine*.\n\nAsk me: a@b.\n<!-- end of your text -->" in again
    assert "| cross-entropy | 0.1230 |" in again
    assert header_of(again)["license"] == "mit"
    assert again == ts.Run.open(made, progress=False).card().read_text()


@pytest.mark.parametrize(
    ("old", "new"), [("## Limits", "## Caveats"), ("library_name: triscale", "library_name: timm")]
)
def test_card_that_was_edited_elsewhere_is_not_replaced(made, capsys, old, new):
    file = ts.Run.open(made, progress=False).card()
    edited = file.read_text().replace(old, new).replace(HINT, "Mine.", 1)
    file.write_text(edited)
    assert "your text" in refused(capsys, "card", made)
    assert file.read_text() == edited
    assert run(capsys, "card", made, "--force").code == 0
    assert "Mine." in file.read_text()
    assert new not in file.read_text()


def test_other_file_is_not_replaced(made, capsys):
    (made / "README.md").write_text("My notes")
    assert "no card of Triscale" in refused(capsys, "card", made)
    assert (made / "README.md").read_text() == "My notes"


def test_card_is_no_file_of_the_manifest(made):
    """It may be edited without a failed verification."""
    opened = ts.Run.open(made, progress=False)
    opened.card()
    opened.report()
    assert "README.md" not in (made / "manifest.json").read_text()


def test_bad_options_are_refused_in_a_sentence(made, capsys):
    assert "SPDX" in refused(capsys, "card", made, "--license", "free")
    assert "watts" in refused(capsys, "card", made, "--watts", "-3")
    assert "watts" in refused(capsys, "card", made, "--watts", "nan")
    assert "holds no run" in refused(capsys, "card", made.parent)
    assert not (made / "README.md").exists()


def test_card_of_a_run_in_training_says_that_there_are_no_results(made):
    for name in ("metrics.json", "model.safetensors", "calibration.json", "predictions.csv", "manifest.json"):
        (made / name).unlink()
    card = ts.Run.open(made, progress=False).card().read_text()
    assert "The network has not been evaluated" in card
    assert "model-index" not in header_of(card)


def test_names_that_are_no_text_or_no_yaml_are_shown(made):
    classes = ("\udcff|x", "- a: [b", "</table>")
    data = json.loads((made / "data.json").read_text())
    for row, name in zip(data["classes"], classes, strict=True):
        row["name"] = name
    (made / "data.json").write_text(json.dumps(data))
    edit(made, "run.json", classes=classes)
    first = ts.Run.open(made, progress=False).card().read_text()
    assert "?\\|x, - a: \\[b, \\</table\\>" in first
    assert header_of(first)["pipeline_tag"] == "image-classification"
    assert ts.Run.open(made, progress=False).card().read_text() == first


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=60))
def test_any_text_between_the_comments_is_kept(text):
    card = f"# A\n\n{place('intended use')}\n\n## B"
    before = sealed(card.replace(HINT, text), {"license": "mit"})
    if "<!--" not in text:
        assert options_of(before) == {"license": "mit"}
        assert with_own_texts(card, own_texts(before)) == card.replace(HINT, text)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40))
def test_names_are_shown_as_they_are(text):
    """CommonMark reads a backslash before a sign of ASCII as that sign; no cell ends early."""
    shown = escaped(text)
    assert "".join(shown.replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")) == " ".join(text.split())
    assert all(before == "\\" for before, sign in zip(" " + shown, shown, strict=False) if sign in "|<>`*_")


def test_block_of_code_is_not_ended_by_its_content():
    assert fenced("sh", "a ``` b") == "````sh\na ``` b\n````"
