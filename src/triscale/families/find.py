"""Find networks and laws by their text form: a name, a file, a function, or three numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

from triscale.errors import NetworkError, RecordError, UserError, nearest
from triscale.families import get, names
from triscale.families.lite import lite
from triscale.families.small import at_resolution
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.input_size import InputSize
from triscale.network.spec import Network
from triscale.record import KIND_KEY
from triscale.scaling.law import Law
from triscale.scaling.named_laws import NAMED_LAWS
from triscale.scaling.piecewise import AnyLaw, PiecewiseLaw

COEFFICIENTS_KIND = "coefficients"
"""The kind of record that a coefficient search writes."""
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def find_network(text: str) -> AnyNetwork:
    """Return a network by its text form.

    Args:
        text: A name, ``NAME@SIZE`` (a side such as 224, or width x height such as 720x184), a JSON file, or
            ``package.module:function`` for a custom model.

    Raises:
        NetworkError: The text is none of these.
        RecordError: The file is not a network.

    Example:
        >>> find_network("resnet18").name, find_network("mypackage.models:small_net").name
        ('resnet18', 'small_net')
    """
    path = Path(text)
    if path.suffix == ".json" or path.is_file():
        content = _read(path)
        kind = _kind(content)
        if kind == CustomNetwork.kind_name:
            return CustomNetwork.from_json(content, source=text)
        return Network.from_json(content, source=text)
    if _FUNCTION.fullmatch(text):
        return CustomNetwork(name=text.partition(":")[2], function=text)
    if "@" in text and text.partition("@")[0] in names():
        return get(text)
    try:
        return get(text)
    except NetworkError:
        hint = nearest(text, names()) or "; triscale list shows the names"
        raise NetworkError(
            f'"{text}" is not a network; expected a name, a .json file or package.module:function{hint}'
        ) from None


def as_network(network: str | Path | AnyNetwork) -> AnyNetwork:
    """Return a network that is given as an object, or by its text form.

    Args:
        network: A network, or what :func:`find_network` accepts.

    Raises:
        NetworkError: The text is not a network, or the object is neither text nor a network.
        RecordError: The file is not a network.

    Example:
        >>> as_network("resnet18") == as_network(get("resnet18"))
        True
    """
    match network:
        case Network() | CustomNetwork():
            return network
        case str() | Path():
            return find_network(str(network))
        case _:
            raise NetworkError(
                f"a {type(network).__name__} is not a network; expected a Network, a name, a .json file or "
                "package.module:function"
            )


def resized(network: AnyNetwork, size: InputSize) -> AnyNetwork:
    """Return a network for images of another size: a published one as :func:`at_resolution` adapts it.

    The strides of other networks are what their author chose; they stay, and so do their names.

    Example:
        >>> from triscale.families import get
        >>> from triscale.network.input_size import parse_size
        >>> own = get("efficientnet_b0").replace(name="mine")
        >>> resized(own, parse_size("32")).total_stride, resized(get("efficientnet_b0"), parse_size("32")).total_stride
        (32, 8)
    """
    if isinstance(network, Network) and network.name in names() and get(network.name) == network:
        return at_resolution(network, size)
    return network.replace(resolution=size.height, aspect_ratio=size.aspect_ratio)


def find_lite(text: str) -> Network:
    """Return the lite form of a network, see :func:`find_network` and :func:`triscale.families.lite.lite`.

    Raises:
        NetworkError: The network is unknown, or has no lite form.
        RecordError: The file is not a network.
    """
    return lite(find_network(text))


def find_law(text: str) -> AnyLaw:
    """Return a scaling law by its text form.

    Args:
        text: A name (:data:`triscale.scaling.named_laws.NAMED_LAWS`), ``alpha,beta,gamma`` as three numbers, a JSON
            file with a law or the result of a coefficient search, or the folder of a coefficient search.

    Raises:
        RecordError: The file is not a law, or the numbers are not valid coefficients.
        UserError: The text is none of these.

    Example:
        >>> str(find_law("1.2,1.1,1.15")), str(find_law("dwr"))
        ('alpha 1.2, beta 1.1, gamma 1.15', 'dwr')
    """
    if text in NAMED_LAWS:
        return NAMED_LAWS[text]
    parts = text.split(",")
    if len(parts) == 3:
        try:
            alpha, beta, gamma = (float(part) for part in parts)
        except ValueError:
            pass
        else:
            return Law.parse({"alpha": alpha, "beta": beta, "gamma": gamma}, f'"{text}"')
    path = Path(text) / "law.json" if Path(text).is_dir() else Path(text)
    if path.suffix != ".json" and not path.is_file():
        hint = nearest(text, NAMED_LAWS) or f"; the names are {', '.join(NAMED_LAWS)}"
        raise UserError(
            f'cannot read the law "{text}"; expected a name, three numbers such as 1.2,1.1,1.15, a .json file or the '
            f"folder of a search{hint}"
        )
    content = _read(path)
    if _kind(content) == COEFFICIENTS_KIND:
        return Law.parse(json.loads(content)["law"], f"the law of {path}")
    if _kind(content) == PiecewiseLaw.kind_name:
        return PiecewiseLaw.from_json(content, source=str(path))
    return Law.from_json(content, source=str(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}; expected a JSON file") from error


def _kind(content: bytes) -> object:
    try:
        data = json.loads(content)
    except ValueError:
        return None
    return data.get(KIND_KEY) if isinstance(data, dict) else None
