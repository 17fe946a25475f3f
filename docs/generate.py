"""Write the pages of docs/reference that are derived from the code.

    python docs/generate.py            write them
    python docs/generate.py --check    exit with 1 if one of them is not current

Commands come from the command line's own parser, recipe fields and records from their classes, exit codes from the
exceptions. ``tests/docs/test_docs.py`` checks that the committed pages are current.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reference_texts import (
    API,
    API_INTRODUCTION,
    ENVIRONMENT,
    ERRORS_INTRODUCTION,
    FAILED,
    LAWS_INTRODUCTION,
    RECIPE_INTRODUCTION,
    RECORDS_INTRODUCTION,
    ROUNDING_INTRODUCTION,
    RUN_FILES,
    TRACKER_ENVIRONMENT,
    TRACKERS_INTRODUCTION,
)

import triscale as ts
from triscale import errors
from triscale.cli.app import app
from triscale.data.images.transforms import Augmentation
from triscale.record import Record
from triscale.scaling.law import Law
from triscale.scaling.named_laws import NAMED_LAWS, SUMMARIES
from triscale.scaling.piecewise import PiecewiseLaw
from triscale.scaling.rounding import ScaleRounding
from triscale.training.recipe import RECIPES, AdamW, BySize, Cosine, Recipe, RmsProp, Sgd, Staircase

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
HEADER = "<!-- Written by docs/generate.py; do not edit. -->\n\n"
RUN_ON_IMPORT = ("triscale.__main__", "triscale.weights.child")


def commands() -> str:
    """Return the page of all commands with their options."""
    text = app.generate_docs(output_format="markdown", recursive=True, usage_name="triscale")
    before, _, rest = text.partition("## Table of Contents")
    rest = rest[rest.index("\n**") :]
    text = before.replace("# triscale\n", "# Commands\n", 1) + rest
    text = re.sub(r"^(triscale .*?) -m \w+", r"\1", text, flags=re.M)  # how this process was started
    text = re.sub(r"\n    (?=[^\s*])", " ", text)  # a description that continues on the next line
    text = text.replace(" *[default: False]*", "").replace(' *[default: ""]*', "").replace(" *[default: ()]*", "")
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def recipe() -> str:
    """Return the page of recipe fields with their meaning and default."""
    lines = [
        "# Recipe fields",
        "",
        RECIPE_INTRODUCTION,
        "",
        *_fields(Recipe),
        "",
        "## Named recipes",
        "",
        "What each named recipe changes of these defaults:",
        "",
        "| field | " + " | ".join(f"`{name}`" for name in RECIPES) + " |",
        "|---" * (len(RECIPES) + 1) + "|",
    ]
    for field, info in Recipe.model_fields.items():
        values = [getattr(one, field) for one in RECIPES.values()]
        if field not in ("name", "source") and any(value != info.default for value in values):
            cells = [_value(value) if value != info.default else "" for value in values]
            lines.append(f"| `{field}` | " + " | ".join(cells) + " |")
    lines += ["", "Sources:", "", *(f"- `{name}`: {one.source}." for name, one in RECIPES.items())]
    for title, classes in (
        ("Optimizers", (AdamW, Sgd, RmsProp)),
        ("Schedules", (Cosine, Staircase)),
        ("Dropout by size", (BySize,)),
        ("Augmentation", (Augmentation,)),
    ):
        lines += ["", f"## {title}"]
        for cls in classes:
            kind = cls.model_fields.get("kind")
            name = f"`{kind.default}`: " if kind is not None else ""
            lines += ["", f"{name}{_summary(cls)}", "", *_fields(cls)]
    return "\n".join(lines) + "\n"


def records() -> str:
    """Return the page of record kinds with their schema numbers."""
    lines = [
        "# Records and file formats",
        "",
        RECORDS_INTRODUCTION,
        "",
        "## Files of a run",
        "",
        "| file | content |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {content} |" for name, content in RUN_FILES.items()]
    lines += ["", "## Kinds", "", "| kind | schema | content | fields |", "|---|---|---|---|"]
    # A record with two bases is found below both.
    for cls in sorted(set(_kinds()), key=lambda cls: cls.kind_name):
        fields = ", ".join(f"`{name}`" for name in cls.model_fields)
        lines.append(f"| `{cls.kind_name}` | {cls.schema_number} | {_summary(cls)} | {fields} |")
    return "\n".join(lines) + "\n"


def exit_codes() -> str:
    """Return the page of exit codes and exceptions."""
    lines = [
        "# Exit codes and exceptions",
        "",
        "| code | meaning |",
        "|---|---|",
        "| 0 | success |",
        f"| 1 | {FAILED} |",
        "| 2 | user error: the request cannot be carried out as given |",
        "| 130 | stopped by Ctrl-C; what a job has made so far is saved |",
        "| 143 | a job was stopped by SIGTERM or by `--max-time`; everything is saved |",
        "",
        ERRORS_INTRODUCTION,
        "",
        "| exception | base | exit code | meaning |",
        "|---|---|---|---|",
    ]
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.TriscaleError)]
    for cls in sorted(classes, key=lambda cls: inspect.getsourcelines(cls)[1]):
        bases = ", ".join(f"`{base.__name__}`" for base in cls.__bases__)
        lines.append(f"| `{cls.__name__}` | {bases} | {cls.exit_code} | {_summary(cls)} |")
    return "\n".join(lines) + "\n"


def environment() -> str:
    """Return the page of environment variables.

    Raises:
        SystemExit: The source reads a variable that has no description.
    """
    read = _variables_read()
    if missing := sorted(read - ENVIRONMENT.keys() - TRACKER_ENVIRONMENT.keys()):
        raise SystemExit(f"docs/generate.py: describe {', '.join(missing)} in ENVIRONMENT")
    if gone := sorted(ENVIRONMENT.keys() - read):
        raise SystemExit(f"docs/generate.py: the source does not read {', '.join(gone)}; remove them from ENVIRONMENT")
    lines = [
        "# Environment variables",
        "",
        *_table(ENVIRONMENT),
        "",
        "## Experiment trackers",
        "",
        TRACKERS_INTRODUCTION,
    ]
    return "\n".join([*lines, "", *_table(TRACKER_ENVIRONMENT)]) + "\n"


def _table(variables: dict[str, str]) -> list[str]:
    return ["| variable | effect |", "|---|---|", *(f"| `{name}` | {meaning} |" for name, meaning in variables.items())]


def api() -> str:
    """Return the page of the Python API, which mkdocstrings fills.

    Raises:
        SystemExit: A public name is in no section.
    """
    listed = " ".join(API.values()).split()
    if missing := sorted(set(ts.__all__) - set(listed) - {"EFFICIENTNET", "__version__"}):
        raise SystemExit(f"docs/generate.py: put {', '.join(missing)} into a section of API")
    lines = [
        "# Python API",
        "",
        API_INTRODUCTION,
    ]
    for section, names in API.items():
        lines += ["", f"## {section}"]
        for name in names.split():
            item = getattr(ts, name)
            target = f"{item.__module__}.{item.__qualname__}"
            heading = f"ts.{name}"
            if inspect.ismodule(sys.modules.get(target)):  # mkdocstrings would show the module of the same name
                returned = inspect.signature(item, eval_str=True).return_annotation
                lines += ["", f"### ts.{name}", "", f"{_summary(item)} It returns this record:"]
                target = f"{returned.__module__}.{returned.__qualname__}"
                heading = returned.__name__
            lines += ["", f"::: {target}", "    options:", f"      heading: {heading}", f"      toc_label: {heading}"]
            if item is ts.Run:  # a part of its methods is in its base
                lines.append("      inherited_members: true")
    return "\n".join(lines) + "\n"


def laws() -> str:
    """Return the page of scaling laws by name, with their points and rounding."""
    lines = ["# Scaling laws", "", LAWS_INTRODUCTION, "", "| name | scales |", "|---|---|"]
    lines += [f"| `{name}` | {SUMMARIES[name]} |" for name in NAMED_LAWS]
    lines += ["", "## Coefficients", "", "| name | alpha | beta | gamma |", "|---|---|---|---|"]
    for name, law in NAMED_LAWS.items():
        if isinstance(law, Law):
            lines.append(f"| `{name}` | {law.alpha:.4g} | {law.beta:.4g} | {law.gamma:.4g} |")
    for name, law in NAMED_LAWS.items():
        if isinstance(law, PiecewiseLaw):
            lines += ["", f"## {name}", "", f"Source: {law.source}.", "", *_points(law)]
    return "\n".join([*lines, "", "## Rounding", "", ROUNDING_INTRODUCTION, "", *_fields(ScaleRounding)]) + "\n"


def _points(law: PiecewiseLaw) -> list[str]:
    lines = ["| phi | depth | width | resolution | published as |", "|---|---|---|---|---|"]
    for point in law.points:
        values = (
            ", ".join(f"{one:.4g}" for one in value) if isinstance(value, tuple) else f"{value:.4g}"
            for value in (point.depth, point.width, point.resolution)
        )
        lines.append(f"| {point.phi:g} | {' | '.join(values)} | {f'`{point.member}`' if point.member else ''} |")
    if changed := law.rounding.model_dump():
        lines += ["", "Rounding: " + ", ".join(f"`{name}` {_plain(value)}" for name, value in changed.items()) + "."]
    if law.end is not None:
        lines += ["", f"The law ends at phi {law.end:g}."]
    return lines


PAGES = {
    "commands.md": commands,
    "laws.md": laws,
    "recipe.md": recipe,
    "records.md": records,
    "exit-codes.md": exit_codes,
    "environment.md": environment,
    "api.md": api,
}


def pages() -> dict[Path, str]:
    """Return the text of every generated page by its path."""
    return {REFERENCE / name: HEADER + make() for name, make in PAGES.items()}


def _kinds(cls: type[Record] = Record) -> Iterator[type[Record]]:
    if cls is Record:
        for module in pkgutil.walk_packages(ts.__path__, "triscale."):
            if module.name not in RUN_ON_IMPORT:
                importlib.import_module(module.name)
    for child in cls.__subclasses__():
        if child.kind_name and child.__module__.startswith("triscale."):
            yield child
        yield from _kinds(child)


def _variables_read() -> set[str]:
    """Return the environment variables that the source reads, also through a constant of the module."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"), args=[key, *_]):
                    pass
                case ast.Subscript(value=ast.Attribute(attr="environ"), slice=key):
                    pass
                case ast.comprehension(iter=ast.Tuple(elts=elements)) if "environ" in ast.unparse(tree):
                    names = [one.value for one in elements if isinstance(one, ast.Constant)]
                    found |= {name for name in names if isinstance(name, str) and re.fullmatch(r"[A-Z][A-Z_]+", name)}
                    continue
                case _:
                    continue
            match key:
                case ast.Constant(value=str(name)):
                    found.add(name)
                case ast.Name(id=name) if name in constants:
                    found.add(constants[name])
                case _:
                    pass
    return found


def _fields(cls: type[Record]) -> list[str]:
    """Return a table of the fields of a record."""
    meanings = _attributes(cls)
    lines = ["| field | default | meaning |", "|---|---|---|"]
    for name, info in cls.model_fields.items():
        if name != "kind":
            lines.append(f"| `{name}` | {_value(info.default)} | {meanings.get(name, '')} |")
    return lines


def _attributes(cls: type[Record]) -> dict[str, str]:
    """Return the section ``Attributes`` of a docstring in Google style, by field."""
    found: dict[str, str] = {}
    name = ""
    _, _, section = inspect.getdoc(cls).partition("Attributes:\n")
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        if start := re.match(r"    (\w+): (.*)", line):
            name, found[start[1]] = start[1], start[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return {name: _markdown(text) for name, text in found.items()}


def _summary(cls: type) -> str:
    text = (inspect.getdoc(cls) or "").split("\n\n")[0]
    return _markdown(" ".join(text.split()))


def _markdown(text: str) -> str:
    """Return text with its markup for Sphinx turned into Markdown, for a cell of a table."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"\((https?://[^)\s]+)\)", r"(<\1>)", text)
    return text.replace("|", "\\|")


def _value(value: Any) -> str:
    """Return a default value as it is written on the command line."""
    match value:
        case Record():
            fields = value.model_dump(exclude_defaults=True)
            kind = getattr(value, "kind", "")
            inner = ", ".join(f"{name}={_plain(one)}" for name, one in fields.items() if name != "kind")
            return f"`{kind or type(value).__name__}`" + (f" with {inner}" if inner else "")
        case None:
            return "`null`"
        case _:
            return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return value if isinstance(value, str) and value else json.dumps(value)


def main() -> None:
    """Write the pages, or check them."""
    made = pages()
    if "--check" in sys.argv:
        stale = [path.name for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
        sys.exit(f"not current: {', '.join(stale)}; run python docs/generate.py" if stale else 0)
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
