"""Find the state dict in a training checkpoint: nested, averaged, in a wrapper, or beside a loss with parameters.

Two steps, since only the second knows the network: :func:`find_state` opens dictionaries inside dictionaries, and
:func:`select` finds the names of a network among the names of a state dict.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from triscale.errors import WeightsError, nearest

AVERAGED = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "ema_weights", "ema_model_state_dict"),
    *("model_ema_state_dict", "ema_state", "averaged_model", "swa_model", "swa_state_dict", "avg_model"),
)
PLAIN = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict", "weights"),
    *("params", "module", "student", "backbone"),
)
PREFIXES = ("module.", "model.", "net.", "network.")
"""Added by ``DataParallel`` and ``AveragedModel``, and by trainers with an attribute of that name."""

WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Segments that ``torch.compile``, FSDP and activation checkpointing insert anywhere in a name."""

LOSSES = re.compile(
    r"((\w+_)?(loss|criterion)|loss_f(n|unc|unction)|(\w+_)?metrics?|(train|val|valid|test)_(acc|accuracy|f1|auroc))[.\d]"
)
"""Beginnings of the names of a loss or a metric with parameters, beside those of a network without a prefix."""

_AVERAGE_IN_NAME = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?)(?![a-z])")

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
    unwrapped = {WRAPPERS.sub("", name): tensor for name, tensor in names.items()}
    wrappers = sorted({found for name in names for found in WRAPPERS.findall(name)})
    if wrappers and len(unwrapped) == len(names):
        names = unwrapped
        notes += [f'removed "{wrapper}" from names' for wrapper in wrappers]
    while names and (shared := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in names)]):
        names = {name.removeprefix(shared[0]): tensor for name, tensor in names.items()}
        notes.append(f'removed the prefix "{shared[0]}" from all names')
    return names, tuple(notes)


def select(state: Mapping[str, Tensor], wanted: Collection[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a network by its names, out of any wrapper, and notes on what was removed.

    Names may begin with the attribute that holds the network in a wrapper, such as ``net.`` or ``model.backbone.``;
    tensors outside it, and those of a loss beside a network without a prefix, are left out. Where several copies of the
    network exist, a moving average is preferred.

    Args:
        state: A state dict.
        wanted: Names that the network cannot do without.

    Returns:
        The tensors; all of them under their own names if no prefix leads to all wanted names.

    Raises:
        WeightsError: There are several copies of the network, none or more than one of them an average.

    Example:
        >>> import torch
        >>> select({"net.fc.bias": torch.zeros(2), "criterion.weight": torch.ones(2)}, ["fc.bias"])[1]
        ('removed the prefix "net." from all names', 'left out what lies outside "net.": criterion.weight')
    """
    first = next(iter(wanted))
    prefixes = [
        name.removesuffix(first)
        for name in state
        if (name == first or name.endswith(f".{first}"))
        and all(name.removesuffix(first) + other in state for other in wanted)
    ]
    if not prefixes:
        return dict(state), ()
    averages = [prefix for prefix in prefixes if _AVERAGE_IN_NAME.search(prefix)]
    if len(prefixes) > 1 and len(averages) != 1:
        shown = ", ".join(prefix.rstrip(".") or "(no prefix)" for prefix in prefixes)
        raise WeightsError(f"the file holds several copies of the network ({shown}); name one with --part")
    prefix = averages[0] if averages else prefixes[0]
    inside = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    others = [name for name in state if not name.startswith(prefix)]
    if not prefix:
        # A module that is unknown may belong to the network, which then is another one: only losses are left out.
        others = [name for name in inside if LOSSES.match(name)]
        inside = {name: tensor for name, tensor in inside.items() if name not in others}
    notes = [f'removed the prefix "{prefix}" from all names'] if prefix else []
    if len(prefixes) > 1:
        plain = next(other for other in prefixes if other != prefix)
        notes = [f'used the moving average in "{prefix}" instead of "{plain}"']
    elif others:
        more = f" and {len(others) - MAX_SHOWN} more" if len(others) > MAX_SHOWN else ""
        where = f'what lies outside "{prefix}"' if prefix else "the parameters of a loss or metric"
        notes.append(f"left out {where}: {', '.join(others[:MAX_SHOWN])}{more}")
    return inside, tuple(notes)


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
            raise WeightsError(f"the file holds several state dicts ({', '.join(names)}); name one with --part")
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
            f"the file holds state dicts under unknown names ({', '.join(others[:MAX_SHOWN])}); name one with --part"
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
    names = part.split(".")
    for number, name in enumerate(names):
        if isinstance(value, Mapping) and name not in value:
            # Not the key of a dictionary, but the beginning of the names of a state dict, maybe one in a dictionary.
            try:
                state = value if _is_state(value) else _search(value)[1]
            except WeightsError:
                state = {}
            prefix = ".".join(names[number:]) + "."
            if inside := {key.removeprefix(prefix): item for key, item in state.items() if key.startswith(prefix)}:
                return inside
        if not isinstance(value, Mapping) or name not in value:
            known = [str(key) for key in value][:1000] if isinstance(value, Mapping) else []
            hint = nearest(name, known) or f"; there is: {', '.join(known[:MAX_SHOWN]) or 'nothing'}"
            raise WeightsError(f'the file has no part "{part}": "{name}" does not exist{hint}')
        value = value[name]
    return value
