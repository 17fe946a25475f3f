"""Recipes as users give them: a name, a JSON file with an optional base, single changed settings, unused settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from triscale.errors import RecipeError, RecordError
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Conv, Separable
from triscale.record import KIND_KEY, SCHEMA_KEY
from triscale.training.progressive import Progressive
from triscale.training.recipe import BySize, Cosine, Recipe, Sgd, get_recipe

_BY_SIZE = BySize().kind  # the only kind that may replace a plain number or None

BASE_KEY = "base"
"""Key in a recipe file: the name of the recipe that supplies every field that the file leaves out."""


def find_recipe(text: str) -> Recipe:
    """Return a recipe by name, or from a JSON or YAML file, which may be partial and name a ``base``.

    Args:
        text: A recipe's name, or the path of a .json, .yaml or .yml file.

    Raises:
        RecipeError: There is no recipe of that name.
        RecordError: The file is not a recipe.

    Example:
        >>> find_recipe("finetune").epochs
        15
    """
    path = Path(text)
    is_yaml = path.suffix in (".yaml", ".yml")
    if path.suffix != ".json" and not is_yaml and not path.is_file():
        return get_recipe(text)
    try:
        data = yaml.safe_load(path.read_bytes()) if is_yaml else json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}; expected a recipe, a JSON file or a name") from error
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RecordError(f"{path} is not {'YAML' if is_yaml else 'JSON'} ({reason}); expected a recipe") from error
    if not isinstance(data, dict) or BASE_KEY not in data:
        return _from_yaml(data, path) if is_yaml else Recipe.load(path)
    base = get_recipe(str(data.pop(BASE_KEY)))
    fields = {key: value for key, value in data.items() if key not in (KIND_KEY, SCHEMA_KEY)}
    return Recipe.parse(_merged(_fields(base), {"name": path.stem, "source": ""} | fields), str(path))


def _from_yaml(data: object, path: Path) -> Recipe:
    if not isinstance(data, dict):
        raise RecordError(f"{path} holds a {type(data).__name__}; expected the fields of a recipe, such as epochs: 10")
    fields = {key: value for key, value in data.items() if key not in (KIND_KEY, SCHEMA_KEY)}
    return Recipe.parse({"name": path.stem} | fields, str(path))


def changed(recipe: Recipe, settings: Iterable[str] | Mapping[str, Any]) -> Recipe:
    """Return a recipe with single fields changed.

    Args:
        recipe: The recipe to start from.
        settings: Each is ``field=value``, or ``field.field=value`` for a nested field. A value is JSON or plain text.
            The name of a kind replaces the whole field by that kind's defaults: ``optimizer=sgd``. Or a mapping from
            fields, nested ones with dots, to values.

    Raises:
        RecordError: A field does not exist, or a value does not fit.
        RecipeError: A setting is not of this form.

    Example:
        >>> changed(find_recipe("small"), ["epochs=5", "optimizer.beta1=0.8"]).optimizer.beta1
        0.8
    """
    changes: dict[str, Any] = {}
    for path, value in settings.items() if isinstance(settings, Mapping) else map(_read, settings):
        *outer, last = path.split(".")
        inside = changes
        for name in outer:
            inside = inside.setdefault(name, {})
        inside[last] = value
    return Recipe.parse(_merged(_fields(recipe), changes), "the recipe with the given options")


def _fields(recipe: Recipe) -> dict[str, Any]:
    """Return all fields of a recipe, also those that its JSON leaves out."""
    left_out = {name: to_jsonable_python(getattr(recipe, name)) for name in recipe.sparse}
    return left_out | recipe.model_dump(mode="json")


def _read(setting: str) -> tuple[str, Any]:
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise RecipeError(f'"{setting}" is not a setting; expected field=value, for example label_smoothing=0')
    return path, _value(text)


def unused_settings(recipe: Recipe, network: AnyNetwork) -> tuple[str, ...]:
    """Return a sentence for every setting that differs from its default but has no effect.

    Args:
        recipe: The recipe to check.
        network: The network that it trains.

    Example:
        >>> from triscale.families import get
        >>> unused_settings(changed(find_recipe("small"), ["patience=99"]), get("efficientnet_b0"))
        ('patience 99 is ignored: there are 30 epochs',)
    """
    sentences = []
    varied, plain = recipe.augmentation, type(recipe.augmentation)()
    if varied.policy != "randaugment":
        sentences += [
            f'augmentation.{name} is ignored: it belongs to randaugment, and policy is "{varied.policy}"'
            for name in ("layers", "magnitude")
            if getattr(varied, name) != getattr(plain, name)
        ]
    if isinstance(recipe.schedule, Cosine) and recipe.warmup_epochs > recipe.epochs / 2 > 0:
        sentences.append(f"warmup_epochs {recipe.warmup_epochs:g} is cut to half of the {recipe.epochs} epochs")
    if (
        isinstance(recipe.optimizer, Sgd)
        and recipe.optimizer.momentum == 0
        and "nesterov" in recipe.optimizer.model_fields_set
    ):
        sentences.append("optimizer.nesterov is ignored: there is no momentum")
    if recipe.patience is not None and recipe.patience >= recipe.epochs:
        sentences.append(f"patience {recipe.patience} is ignored: there are {recipe.epochs} epochs")
    if recipe.micro_batches == 1:
        sentences += [
            f"{name} is ignored: there is one micro-batch"
            for name, value, default in (
                ("grad_reduction", recipe.grad_reduction, "deterministic"),
                ("norm_over", recipe.norm_over, "micro_batch"),
            )
            if value != default
        ]
    return (*sentences, *_unused_stages(recipe), *_unused_by_network(recipe, network))


def _unused_stages(recipe: Recipe) -> list[str]:
    plan = recipe.progressive
    if plan.stages > recipe.epochs:
        return [f"progressive.stages {plan.stages} is ignored in part: there are {recipe.epochs} epochs"]
    if plan.stages == 1 and plan != Progressive():
        return ["progressive is ignored: it has one stage; give progressive.stages, such as 4"]
    return []


def _unused_by_network(recipe: Recipe, network: AnyNetwork) -> list[str]:
    changed_fields = [name for name in ("dropout", "drop_path", "norm_momentum") if getattr(recipe, name) is not None]
    if isinstance(network, CustomNetwork):
        return [f"{name} is ignored: {network.function} sets it" for name in changed_fields]
    if "drop_path" in changed_fields and all(isinstance(stage.block, Separable | Conv) for stage in network.stages):
        return [f"drop_path is ignored: {network.name} has no residual blocks"]
    return []


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge changes into ``base`` field by field; a different kind starts from its own defaults."""
    merged = dict(base)
    for name, value in changes.items():
        old = base.get(name)
        if isinstance(value, str) and (isinstance(old, dict) or value == _BY_SIZE):
            value = {"kind": value}  # noqa: PLW2901
        if isinstance(old, dict) and isinstance(value, dict):
            same_kind = value.get("kind", old.get("kind")) == old.get("kind")
            value = _merged(old, value) if same_kind else value  # noqa: PLW2901
        merged[name] = value
    return merged
