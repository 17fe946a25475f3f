"""Imports go one way: the table of the design, checked on the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "triscale"

CORE = {"errors", "record", "places", "retry"}
MAY_IMPORT = {
    "errors": set(),
    "record": {"errors"},
    "places": set(),
    "retry": {"errors"},
    "network": CORE,
    "scaling": CORE | {"network"},
    "families": CORE | {"network", "scaling"},
    "search": CORE | {"network", "scaling", "families"},
    "nn": CORE | {"network"},
    "report": CORE | {"network"},
    "data": CORE | {"network"},
    "weights": CORE | {"network", "scaling", "families", "nn"},
    "explain": CORE | {"network", "nn"},
    "measure": CORE | {"network", "nn"},
    "deploy": CORE | {"network", "nn"},
    "training": CORE | {"network", "nn", "data"},
}
ROOMS = set(MAY_IMPORT)
MAY_IMPORT["jobs"] = ROOMS | {""}
MAY_IMPORT["serve"] = ROOMS | {"jobs", ""}
MAY_IMPORT["cli"] = ROOMS | {"jobs", "serve"}
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT[""] = CORE | {"network", "scaling", "families", "nn", "weights"}

TORCH_FREE = ("errors", "record", "retry", "network", "scaling", "families", "search", "cli", "report")
TORCH = {"torch", "torchvision", "onnx", "onnxruntime", "safetensors"}
SLOW_TO_IMPORT = TORCH | {"matplotlib", "sklearn", "scipy", "optuna"}

FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(path: Path) -> list[tuple[str, ast.AST, bool]]:
    """Return each imported module with its node and whether it stands at the top level of the file."""
    tree = ast.parse(path.read_text())
    top = set()
    for node in tree.body:
        top.add(id(node))
        if isinstance(node, ast.If):
            top |= {id(inner) for inner in node.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module or "", node, id(node) in top))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path):
    room = room_of(path)
    for module, _, _ in imports(path):
        parts = module.split(".")
        if parts[0] != "triscale":
            continue
        other = parts[1] if len(parts) > 1 else ""
        assert other == room or other in MAY_IMPORT[room], f"{room} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_imports_inside_functions(path):
    if room_of(path) == "cli":
        return
    late = [module for module, _, at_top in imports(path) if not at_top]
    assert not late, f"{path}: {late}"


@pytest.mark.parametrize("path", [path for path in FILES if room_of(path) in TORCH_FREE], ids=str)
def test_the_core_never_names_torch(path):
    named = {module.split(".")[0] for module, _, _ in imports(path)}
    assert not named & TORCH


def test_the_core_and_the_command_line_load_without_anything_slow():
    code = (
        "import sys, triscale, triscale.cli, triscale.families.find\n"
        f"print(sorted(set(sys.modules) & {SLOW_TO_IMPORT!r}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_nobody_prints_outside_the_command_line():
    for path in FILES:
        if room_of(path) != "cli":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
            assert "print" not in names, path
