"""Imports follow the layer table of the design; checks the source, including subpackages and type-only imports."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "triscale"

CORE = {
    "errors", "compat", "locks", "notebook", "optional_import", "record", "places", "progress", "progress_bars",
    "retry", "version",
}  # fmt: skip
MAY_IMPORT = {
    "errors": set(),
    "compat": set(),
    "lettering": set(),
    "optional_import": {"errors"},
    "places": set(),
    "progress": set(),
    "retry": {"errors"},
    "version": set(),
    "notebook": set(),
    "progress_bars": {"progress"},
    "locks": {"compat"},
    "record": {"errors", "compat"},
    "network": CORE,
    "scaling": CORE | {"network"},
    "families": CORE | {"network", "scaling"},
    "search": CORE | {"network", "scaling", "families"},
    "results": CORE | {"network", "scaling", "families", "search"},
    "report": CORE | {"network", "scaling", "families", "search", "results"},
    "nn": CORE | {"network"},
    "xla": CORE | {"network"},
    "data": CORE | {"network", "results", "lettering"},
    "weights": CORE | {"network", "scaling", "families", "nn"},
    "explain": CORE | {"network", "nn", "lettering"},
    "measurement": CORE | {"network", "nn", "results"},
    "deploy": CORE | {"network", "nn", "results"},
    "training": CORE | {"network", "nn", "xla", "data", "results"},
}
ROOMS = set(MAY_IMPORT)
MAY_IMPORT["jobs"] = ROOMS
MAY_IMPORT["api"] = ROOMS | {"jobs"}
MAY_IMPORT["serve"] = ROOMS | {"jobs"}
MAY_IMPORT["cli"] = ROOMS | {"jobs", "serve"}
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT[""] = CORE | {"network", "scaling", "families", "nn", "weights", "api"}

TORCH_FREE = (*sorted(CORE), "network", "scaling", "families", "search", "cli", "report")
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
    result = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            result += [(alias.name, node, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            result.append((node.module or "", node, id(node) in top))
    return result


SUBPACKAGES = {
    "data": ("images", "sources", "checks", "pipeline"),
    "report": ("draw", "run", "card", "runs", "search", "comparison", "baseline"),
    "search": ("study", "coefficients", "baseline", "compare"),
    "training": ("distributed", "state", "xla"),
    "deploy": ("engines", "quantize", "apps"),
    "jobs": (
        "core",
        "data",
        "training",
        "deploy",
        "profile",
        "inference",
        "studies",
        "reports",
        "transfer",
        "verification",
    ),
    "cli": ("support", "commands"),
}
"""Subpackages of a package, lowest first: each imports only from those before it."""


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules() -> dict[str, set[str]]:
    """Return the modules that each module names in an import, wherever it stands."""
    files = {module_of(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        for name, node, _ in imports(path):
            base = name.removeprefix("triscale").removeprefix(".")
            if name.split(".")[0] == "triscale" and isinstance(node, ast.ImportFrom):
                named = [f"{base}.{alias.name}" if base else alias.name for alias in node.names]
                graph[module] |= {inner if inner in files else base for inner in named}
        graph[module].discard(module)
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of nodes that reach each other (strongly connected components of two and more)."""
    reached = {node: {node} for node in graph}
    for node in graph:
        waiting = [node]
        while waiting:
            for following in graph.get(waiting.pop(), ()):
                if following not in reached[node]:
                    reached[node].add(following)
                    waiting.append(following)
    result = {frozenset(other for other in reached[node] if node in reached.get(other, ())) for node in graph}
    return [set(group) for group in result if len(group) > 1]


def test_imports_follow_layer_table():
    for path in FILES:
        room = room_of(path)
        for module, _, _ in imports(path):
            parts = module.split(".")
            if parts[0] == "triscale":
                other = parts[1] if len(parts) > 1 else ""
                assert other == room or other in MAY_IMPORT[room], f"{module_of(path)} imports {module}"


def test_no_circular_imports():
    assert circles(imported_modules()) == []


def test_subpackages_import_in_one_direction():
    graph = imported_modules()
    for package, order in SUBPACKAGES.items():
        folders = {path.name for path in (PACKAGE / package).iterdir() if (path / "__init__.py").is_file()}
        assert folders - {"templates"} == set(order), package
        parts: dict[str, set[str]] = {}
        for module, named in graph.items():
            name = module.split(".")[:2]
            if name[0] == package and len(name) == 2:
                inside = {other.split(".")[1] for other in named if other.startswith(f"{package}.")}
                parts.setdefault(name[1], set()).update(inside - {name[1]})
        assert circles(parts) == [], package
        for number, name in enumerate(order):
            later = parts.get(name, set()) & set(order[number + 1 :])
            assert not later, f"{package}.{name} imports {sorted(later)}"


def test_commands_share_options_only_through_support():
    for module, named in imported_modules().items():
        if module.startswith("cli.support"):
            assert not any(other.startswith("cli.commands") for other in named), module


def test_only_cli_and_api_import_inside_functions():
    for path in FILES:
        if room_of(path) not in ("cli", "api"):
            late = [module for module, _, at_top in imports(path) if not at_top]
            assert not late, f"{path}: {late}"


def test_core_never_imports_torch():
    for path in FILES:
        if room_of(path) in TORCH_FREE:
            named = {module.split(".")[0] for module, _, _ in imports(path)}
            assert not named & TORCH, path


def test_class_names_are_unique():
    owners: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners.setdefault(node.name, []).append(module_of(path))
    assert {name: modules for name, modules in owners.items() if len(modules) > 1} == {}


def test_files_and_functions_are_short():
    """At most 400 lines a file, half of the files at most 150; tables of published networks may be longer."""
    lengths = sorted(len(path.read_text().splitlines()) for path in FILES)
    assert lengths[len(lengths) // 2] <= 150
    assert lengths[-1] <= 400


def test_core_and_cli_do_not_import_slow_packages():
    code = (
        "import sys, triscale, triscale.cli, triscale.families.find\n"
        f"print(sorted(set(sys.modules) & {SLOW_TO_IMPORT!r}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_print_is_only_used_in_cli():
    for path in FILES:
        if room_of(path) != "cli":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
            assert "print" not in names, path
