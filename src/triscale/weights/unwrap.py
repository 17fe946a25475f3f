"""Find the state dict in a training checkpoint: nested, averaged, or with a prefix on all names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from triscale.errors import WeightsError, nearest

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "ema_weights")
PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
PREFIXES = ("module.", "_orig_mod.", "model.")
"""Added by ``DataParallel`` and ``AveragedModel``, by ``torch.compile``, and by trainers with a ``model`` attribute."""

STEPS_AVERAGED = "n_averaged"
MAX_SHOWN = 8


def find_state(loaded: Any, part: str | None = None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state dict inside a loaded checkpoint, and notes on the choices made.

    Exponential moving averages are preferred to plain weights.

    Args:
        loaded: The content of the file.
        part: The path of the state dict, such as ``state_dict`` or ``ema.module``; by default it is found by its name.

    Raises:
        WeightsError: There is no state dict, or there are several candidates.

    Example:
        >>> import torch
        >>> state, notes = find_state({"epoch": 3, "state_dict": {"module.fc.bias": torch.zeros(2)}})
        >>> list(state), notes
        (['fc.bias'], ('taken from "state_dict"', 'removed the prefix "module." from all names'))
    """
    path, state = ("", loaded) if part is None else (part, _walk(loaded, part))
    if not _is_state(state):
        inner, state = _search(state)
        path = f"{path}.{inner}" if path else inner
    notes = [f'taken from "{path}"'] if path else []
    others = [name for name in PLAIN if name != path and isinstance(loaded, Mapping) and name in loaded]
    if path.partition(".")[0] in AVERAGED and others:
        notes = [f'used the moving average in "{path}" instead of "{others[0]}"']
    stripped, more = strip_prefixes(state)
    return stripped, (*notes, *more)


def strip_prefixes(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return a state dict without the prefixes that all its names share, and notes on what was removed."""
    names = {name: tensor for name, tensor in state.items() if name != STEPS_AVERAGED}
    notes: list[str] = []
    while names and (shared := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in names)]):
        names = {name.removeprefix(shared[0]): tensor for name, tensor in names.items()}
        notes.append(f'removed the prefix "{shared[0]}" from all names')
    return names, tuple(notes)


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
    )


def _search(loaded: Any) -> tuple[str, Mapping[str, Tensor]]:
    """Return the path and the state dict found under a known name."""
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"the file holds a {type(loaded).__name__}; expected a state dict, from names to tensors")
    for group in (AVERAGED, PLAIN):  # averages first: they are what was evaluated
        names = [name for name in group if name in loaded and _leads_to_state(loaded[name])]
        if len(names) > 1:
            raise WeightsError(f"the file holds several state dicts ({', '.join(names)}); name one as the part to use")
        if names:
            value = loaded[names[0]]
            if _is_state(value):
                return names[0], value
            inner, state = _search(value)
            return f"{names[0]}.{inner}", state
    shown = ", ".join(str(key)[:60] for key in list(loaded)[:MAX_SHOWN])
    others = [str(key) for key, value in loaded.items() if _is_state(value)]
    if others:
        raise WeightsError(
            f"the file holds state dicts under unknown names ({', '.join(others[:MAX_SHOWN])}); name one as "
            "the part to use"
        )
    strangers = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
    if loaded and len(strangers) < len(loaded):
        raise WeightsError(f"the file mixes tensors with other values ({', '.join(strangers[:MAX_SHOWN])})")
    raise WeightsError(f"the file holds no state dict; its entries are: {shown or 'none'}")


def _leads_to_state(value: Any) -> bool:
    return _is_state(value) or (
        isinstance(value, Mapping)
        and any(_leads_to_state(value[name]) for name in (*AVERAGED, *PLAIN) if name in value)
    )


def _walk(loaded: Any, part: str) -> Any:
    value = loaded
    for name in part.split("."):
        if not isinstance(value, Mapping) or name not in value:
            known = [str(key) for key in value][:1000] if isinstance(value, Mapping) else []
            hint = nearest(name, known) or f"; there is: {', '.join(known[:MAX_SHOWN]) or 'nothing'}"
            raise WeightsError(f'the file has no part "{part}": "{name}" does not exist{hint}')
        value = value[name]
    return value
