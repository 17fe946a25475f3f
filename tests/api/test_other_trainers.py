"""Models and results used as others would: other training loops, checkpoints, copies, detection, a notebook."""

from __future__ import annotations

import copy
import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork

import triscale as ts
from conftest import write_classes

ROOT = Path(__file__).parent.parent.parent
SIDE = 16


@pytest.fixture
def model(tiny) -> ts.Classifier:
    torch.manual_seed(0)
    return ts.create_model(tiny)


@pytest.fixture(scope="module")
def data() -> TensorDataset:
    """Three classes that differ in the mean of one channel."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 3
    inputs = torch.randn(48, 3, SIDE, SIDE, generator=generator) * 0.3
    inputs[torch.arange(48), labels] += 1
    return TensorDataset(inputs, labels)


def loss_of(model: nn.Module, data: TensorDataset, *, training: bool = False) -> float:
    with torch.inference_mode():
        return float(F.cross_entropy(copy.deepcopy(model).train(training)(data.tensors[0]), data.tensors[1]))


def same_outputs(one: nn.Module, other: nn.Module) -> bool:
    inputs = torch.randn(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        return torch.equal(one.eval()(inputs), other.eval()(inputs))


def fit_plainly(model: nn.Module, data: TensorDataset, after_step=lambda: None, **to) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(8):
        for inputs, labels in DataLoader(data, batch_size=16):
            loss = F.cross_entropy(model(inputs.to(**to)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after_step()


def test_plain_loop_learns_and_keeps_an_average(model, data):
    before = loss_of(model, data)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
    fit_plainly(model, data, lambda: average.update_parameters(model))
    assert loss_of(model, data) < 0.8 * before
    assert loss_of(average, data) < 0.9 * before
    assert not same_outputs(model, average.module)


def test_channels_last_and_autocast_learn(model, data):
    model.to(memory_format=torch.channels_last)
    # With statistics of the batch: Adam makes steps of full size out of the rounding noise of vanishing gradients, so
    # that running statistics of so few steps may lag far behind the weights.
    before = loss_of(model, data, training=True)
    with torch.autocast("cpu", torch.bfloat16):
        fit_plainly(model, data, memory_format=torch.channels_last)
    assert loss_of(model, data, training=True) < 0.8 * before


@pytest.mark.parametrize("trained", [False, True])
def test_copies_compute_the_same(model, data, trained, tmp_path):
    if trained:
        fit_plainly(model, data)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    loaded = ts.build(model.network)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(stream, weights_only=False), loaded]
    for other in copies:
        assert same_outputs(model, other)
        assert other.network == model.network


def test_frozen_backbone_trains_only_the_classifier(model, data):
    model.requires_grad_(False)
    model.get_classifier().requires_grad_(True)
    before = {name: value.clone() for name, value in model.named_parameters()}
    fit_plainly(model, data)
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"head.classifier.weight", "head.classifier.bias"}


def test_lightning_trains_and_loads_its_checkpoint(tiny, data, tmp_path):
    lightning = pytest.importorskip("lightning", reason="needs the package lightning")

    class Module(lightning.LightningModule):
        def __init__(self, network: ts.Network) -> None:
            super().__init__()
            self.model = ts.create_model(network)

        def training_step(self, batch, index):
            inputs, labels = batch
            loss = F.cross_entropy(self.model(inputs), labels)
            self.log("loss", loss)
            return loss

        def validation_step(self, batch, index):
            self.log("val_loss", F.cross_entropy(self.model(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=5e-3)

    torch.manual_seed(0)
    module = Module(tiny)
    before, loader = loss_of(module.model, data), DataLoader(data, batch_size=16)
    trainer = lightning.Trainer(
        max_epochs=6, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, enable_checkpointing=False, gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    assert loss_of(module.model, data) < 0.8 * before
    assert trainer.callback_metrics["val_loss"] < before
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    assert same_outputs(module.model, Module.load_from_checkpoint(tmp_path / "model.ckpt", network=tiny).model)


def test_hugging_face_trainer_trains_saves_and_resumes(tiny, data, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    pytest.importorskip("accelerate", reason="needs the package accelerate")
    from safetensors.torch import load_file

    class ForClassification(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = ts.create_model(tiny)

        def forward(self, pixel_values, labels=None):
            logits = self.model(pixel_values)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits} if labels is not None else logits

    def trainer(epochs: int):
        arguments = transformers.TrainingArguments(
            str(tmp_path / "checkpoints"), num_train_epochs=epochs, per_device_train_batch_size=16, learning_rate=5e-3,
            use_cpu=True, report_to="none", save_strategy="epoch", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        rows = [{"pixel_values": inputs, "labels": label} for inputs, label in data]
        return transformers.Trainer(ForClassification(), arguments, train_dataset=rows, eval_dataset=rows)

    first = trainer(4)
    before = first.evaluate()["eval_loss"]
    first.train()
    assert first.evaluate()["eval_loss"] < 0.9 * before
    assert first.predict(first.eval_dataset).predictions.shape == (48, 3)
    first.save_model(str(tmp_path / "model"))
    loaded = ForClassification()
    loaded.load_state_dict(load_file(tmp_path / "model" / "model.safetensors"))
    assert same_outputs(loaded, first.model)
    resumed = trainer(5)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 15


def test_accelerate_trains_and_saves(model, data, tmp_path):
    accelerate = pytest.importorskip("accelerate", reason="needs the package accelerate")
    before = loss_of(model, data)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, batch_size=8))
    for _ in range(8):
        for inputs, labels in loader:
            with accelerator.accumulate(prepared):
                accelerator.backward(F.cross_entropy(prepared(inputs), labels))
                accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    assert loss_of(model, data) < 0.8 * before
    accelerator.save_model(prepared, tmp_path / "model")
    loaded = ts.create_model(model.network, checkpoint=tmp_path / "model" / "model.safetensors")
    assert same_outputs(loaded, accelerator.unwrap_model(prepared))
    accelerator.save_state(tmp_path / "state")
    accelerator.load_state(tmp_path / "state")


def test_wrappers_of_a_group_keep_names_and_gradients(model, data, tmp_path):
    alone, inputs = copy.deepcopy(model).eval(), data.tensors[0][:8]
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model.eval())
        for module in (alone, wrapped):
            module(inputs).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert list(wrapped.module.state_dict()) == list(alone.state_dict())
    for one, other in zip(alone.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


class Pyramid(nn.Module):
    """A detection backbone from the model's own ``feature_info`` and ``forward_intermediates``."""

    out_channels = 16

    def __init__(self, model: ts.Classifier) -> None:
        super().__init__()
        self.model = model
        self.fpn = FeaturePyramidNetwork([info["num_chs"] for info in model.feature_info[-2:]], self.out_channels)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.model.forward_intermediates(images, intermediates_only=True)[-2:]
        return self.fpn({str(number): features for number, features in enumerate(maps)})


def test_detector_on_intermediates_learns(model):
    anchors = AnchorGenerator(sizes=((16,), (32,)), aspect_ratios=((1.0,),) * 2)
    detector = RetinaNet(Pyramid(model), num_classes=2, anchor_generator=anchors, min_size=64, max_size=64)
    image = torch.rand(3, 64, 64)
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = sum(detector([image, image], [target, target]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert model.stem.conv.weight.grad.abs().sum() > 0
    assert set(detector.eval()([image])[0]) == {"boxes", "scores", "labels"}


CELLS = (
    "import triscale as ts\nnetwork = ts.Network.load(__import__('pathlib').Path('tiny.json'))\nnetwork",
    "ts.cost(network)",
    "run = ts.fit('images', '200k', baseline=network, epochs=2, batch_size=16, out='run')",
    "run",
    "run.budget_fit",
    "ts.measure(network, engines='torch')[0]",
)


@pytest.mark.process
@pytest.mark.stress
def test_notebook_shows_progress_tables_and_figures(tiny, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs the package nbclient")
    pytest.importorskip("ipykernel", reason="needs the package ipykernel")
    import nbformat

    write_classes(tmp_path / "images", 12)
    tiny.save(tmp_path / "tiny.json")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"), prepend=os.pathsep)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in notebook.cells:
        assert [output for output in cell.outputs if output.output_type == "error"] == []
    for shown in (0, 1, 3, 4, 5):
        assert any("text/html" in output.get("data", {}) for output in notebook.cells[shown].outputs), CELLS[shown]
    (bars,) = [output["data"]["text/html"] for output in notebook.cells[2].outputs if "data" in output]
    for phase in ("scan", "train", "evaluate", "export"):
        assert f"<td>{phase}</td>" in bars
    assert bars.count("100%") == bars.count("<progress"), "one output, updated in place until everything is done"
