"""The header of a model card: metadata in YAML that the Hugging Face Hub reads.

Format: https://huggingface.co/docs/hub/model-cards. A field whose value nobody has stated is left out.
"""

from __future__ import annotations

from typing import Any

import yaml

from triscale.report.card.card_content import CardContent
from triscale.results.metrics import AnyMetrics, Metrics


def card_header(content: CardContent) -> str:
    """Return the header with its delimiters."""
    fields: dict[str, Any] = {
        "library_name": "triscale",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "triscale", content.family],
    }
    if content.license is not None:
        fields |= _license(content.license)
    hubs = [origin.hub for origin in content.origins[:1] if origin.hub is not None]
    if hubs:
        fields["base_model"] = hubs
        if content.trains:
            fields["base_model_relation"] = "finetune"
    if content.run.metrics is not None:
        fields |= _results(content, content.run.metrics)
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)}---"


def _license(text: str) -> dict[str, str]:
    """Return the fields of a license: the Hub has its own list, of single licenses in lower case."""
    if " " in text or text.startswith("licenseref-"):
        return {"license": "other", "license_name": text.removeprefix("licenseref-").replace(" ", "-")}
    return {"license": text}


def _results(content: CardContent, metrics: AnyMetrics) -> dict[str, Any]:
    low, high = metrics.interval
    if isinstance(metrics, Metrics):
        values = [
            ("accuracy", f"Top-1 accuracy (95% interval {low:.4f} to {high:.4f})", metrics.top1),
            ("balanced_accuracy", "Balanced accuracy", metrics.mean_class_accuracy),
        ]
    else:
        name = f"Mean average precision (95% interval {low:.4f} to {high:.4f})"
        values = [
            ("mean_average_precision", name, metrics.mean_average_precision),
            ("f1", "Micro F1", metrics.micro_f1),
        ]
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": "imagefolder", "name": content.run.images or "images", "split": metrics.split},
        "metrics": [{"type": kind, "name": name, "value": round(value, 4)} for kind, name, value in values],
    }
    return {
        "metrics": [kind for kind, _, _ in values],
        "model-index": [{"name": content.run.title, "results": [result]}],
    }
