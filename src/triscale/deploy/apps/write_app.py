"""Write an example project: the templates of its kind, filled with the contract, and the model."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from triscale.deploy.apps import App
from triscale.deploy.contract import Contract
from triscale.deploy.engines import Precision, get_engine
from triscale.deploy.export import copy_exported
from triscale.deploy.onnx_file import contract_entries
from triscale.errors import RecordError, RunError
from triscale.results.exported_app import ExportedApp

RECORD_FILE = "triscale.json"
"""The record of a project, in its folder."""
FACTS_FILE = "model.json"
"""The contract for programs that cannot read it from the model, in the folder of the model."""
RENDERED = ".j2"
"""Suffix of templates that are filled in; the others are copied."""
_PLAIN = range(0x20, 0x7F)


def write_app(app: App, contract: Contract, model: Path, precision: Precision, folder: Path) -> ExportedApp:
    """Write a project into a folder, in place of one that was exported before; other files in the folder stay.

    Args:
        app: The kind of project.
        contract: The contract of the model.
        model: The exported model, which is copied.
        precision: Its precision.
        folder: Folder of the project.

    Returns:
        The record of the project, which is also saved in the folder.

    Raises:
        RunError: See :func:`check_replaceable`.
    """
    former = check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".app-") as temporary:
        draft = Path(temporary) / app.name
        _render(app, contract, precision, draft)
        place = draft / app.model_folder
        place.mkdir(parents=True, exist_ok=True)
        copy_exported(model, place / f"model{model.suffix}")
        facts = json.dumps(contract_entries(app.reduced(contract)), ensure_ascii=False, indent=1)
        (place / FACTS_FILE).write_text(f"{facts}\n", encoding="utf-8")
        files = digests_of(draft)
        record = ExportedApp(
            app=app.name, engine=get_engine(app.engine).title, precision=precision, network=contract.network,
            run_with=app.run_with, built_here=app.built_here, files=files,
        )  # fmt: skip
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).replace(folder / name)
        for name in former - files.keys():
            (folder / name).unlink(missing_ok=True)
        record.save(folder / RECORD_FILE)
    return record


def check_replaceable(folder: Path) -> set[str]:
    """Check that a project can be written into a folder without losing anything that was not exported.

    Returns:
        The files of the project that was exported into it before; none if there is none.

    Raises:
        RunError: It holds other files or is one, or an exported file was changed.
    """
    blocking = next((path for path in (folder, *folder.parents) if path.is_file()), None)
    if blocking is not None:
        raise RunError(f"{blocking} is a file; give a folder with --out")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return set()
    try:
        files = ExportedApp.load(folder / RECORD_FILE).files
    except RecordError as error:
        raise RunError(
            f"{folder} exists and holds no exported app; give another folder with --out, or remove it"
        ) from error
    present = digests_of(folder, files)
    changed = [name for name, digest in present.items() if digest != files[name]]
    if changed:
        raise RunError(
            f"{changed[0]} in {folder} was changed since it was exported; give another folder with --out, or remove it"
        )
    return set(files)


def digests_of(folder: Path, names: dict[str, str] | None = None) -> dict[str, str]:
    """Return the SHA-256 of the files in a folder by path; of those with these names if they are given."""
    paths = sorted(folder.rglob("*")) if names is None else [folder / name for name in names]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file()
    }


def c_string(text: str) -> str:
    r"""Return a text as a string literal of C++: bytes that are not plain ASCII are octal escapes of UTF-8.

    Example:
        >>> print(c_string('a "ü"'))
        "a \"\303\274\""
    """
    escaped = {ord('"'): '\\"', ord("\\"): "\\\\", ord("?"): "\\?"}
    return '"' + "".join(escaped.get(one, chr(one) if one in _PLAIN else f"\\{one:03o}") for one in text.encode()) + '"'


def c_number(value: float) -> str:
    """Return a number as a literal of type double in C++, exactly.

    Example:
        >>> c_number(1), c_number(0.485)
        ('1.0', '0.485')
    """
    return repr(float(value))


FILTERS: dict[str, Callable[..., str]] = {"c_string": c_string, "c_number": c_number}


def _render(app: App, contract: Contract, precision: Precision, draft: Path) -> None:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    environment.filters.update(FILTERS)
    values = {
        "app": app,
        "contract": contract,
        "images": contract.preprocessing,
        "decision": contract.decision,
        "confidence": contract.decision.confidence,
        "precision": precision,
    }
    for name, template in _files(resources.files(__package__) / "templates" / app.name):
        file = draft / name.removesuffix(RENDERED)
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(RENDERED):
            text = environment.from_string(template.read_text(encoding="utf-8")).render(values)
            file.write_text(text, encoding="utf-8")
        else:
            file.write_bytes(template.read_bytes())


def _files(folder: Traversable, path: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield the files in a folder of templates with their paths."""
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        if one.is_dir():
            yield from _files(one, f"{path}{one.name}/")
        else:
            yield f"{path}{one.name}", one
