"""What to type instead of options that other tools have."""

from __future__ import annotations

HINTS = {
    "--pretrained": "--weights NAME starts from published weights; triscale weights list shows the names",
    "--checkpoint": "--weights RUN_OR_FILE starts from other weights",
    "--resume": "the same command resumes an interrupted run",
    "--imgsz": "--resolution 224, or give the image size with the network: efficientnet_b0@224",
    "--data": "give the images first: triscale train IMAGES --network NAME",
    "--data-dir": "give the images first: triscale train IMAGES --network NAME",
    "--arch": "--network NAME",
    "--backbone": "--network NAME",
    "--lr0": "--lr RATE",
    "--bs": "--batch-size NUMBER",
    "--gpu": "--device cuda, or --device 1 for the second GPU",
    "--gpus": "several GPUs: python -m torch.distributed.run --nproc-per-node 2 -m triscale train ...",
    "--num-classes": "the classes follow from the images; nothing has to be given",
    "--output-dir": "--out FOLDER",
    "--output": "--out FOLDER",
    "--project": "--out FOLDER",
    "--tensorboard": "--log tensorboard",
    "--mlflow": "--log mlflow",
    "--wandb": "--log wandb",
    "--logger": "--log tensorboard, mlflow or wandb",
    "--amp": "--set precision=bfloat16",
    "--opt": "--set optimizer=sgd",
    "--wd": "--set weight_decay=0.05",
    "--drop": "--set dropout=0.2",
    "--drop-rate": "--set dropout=0.2",
    "--smoothing": "--set label_smoothing=0.1",
    "--hflip": "--flip or --no-flip",
    "--format": "--engine onnxruntime, openvino, executorch, coreml or litert",
    "--num-workers": "--workers NUMBER",
    "--alpha": "--law ALPHA,BETA,GAMMA",
    "--flops": "--budget 400M limits multiply-accumulates (MACs)",
    "--macs": "--budget 400M",
    "--params": '--budget "5M params"',
    "--latency": "--budget 20ms --profile profile.json",
}
SAME = {
    "--img-size": "--imgsz",
    "--image-size": "--imgsz",
    "--input-size": "--imgsz",
    "--architecture": "--arch",
    "--initial-checkpoint": "--checkpoint",
    "--optimizer": "--opt",
    "--weight-decay": "--wd",
    "--fp16": "--amp",
    "--half": "--amp",
    "--save-dir": "--output-dir",
    "--log-wandb": "--wandb",
    "--report-to": "--logger",
    "--beta": "--alpha",
    "--gamma": "--alpha",
    "--classes": "--num-classes",
    "--nc": "--num-classes",
    "-j": "--num-workers",
    "-b": "--bs",
}
"""Other spellings of the same."""


def hint_for(option: str) -> str | None:
    """Return what to type instead of an option that does not exist here, or None.

    Args:
        option: Such as ``--imgsz`` or ``--imgsz=224``.

    Example:
        >>> hint_for("--lr0=0.1")
        '--lr RATE'
    """
    name = option.partition("=")[0].replace("_", "-")
    name = SAME.get(name, name)
    if name in HINTS:
        return HINTS[name]
    from triscale.training.recipe import Recipe

    field = name.removeprefix("--").replace("-", "_")
    if field in Recipe.model_fields:
        return f"--set {field}=VALUE"
    return None
