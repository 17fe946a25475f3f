"""Links, commands, options and code of the documents are right, and the generated pages are current."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import triscale as ts
from conftest import write_classes
from triscale.scaling.budget import DEVICE_BUDGETS

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"])
WRITTEN = [page for page in PAGES if "Written by docs/generate.py" not in page.read_text()]
FENCE = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<code>.*?)^ *```$", re.M | re.S
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
INLINE = re.compile(r"`(triscale [a-z][^`]*)`")
RUNNABLE = {"run", "run: trained", "run: practice"}
NEEDS = "run: needs "
"""A block that runs by itself if a package is installed, which stands after this."""


def is_runnable(mark: str) -> bool:
    return mark in RUNNABLE or not mark or mark.startswith(NEEDS)


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, kind: str) -> list[tuple[str, str]]:
    """Mark and text of the fenced blocks of a kind."""
    found = []
    for block in FENCE.finditer(page.read_text()):
        if block["kind"] == kind:
            text = "\n".join(line.removeprefix(block["indent"]) for line in block["code"].splitlines())
            found.append((block["mark"] or "", text))
    return found


def anchor(title: str) -> str:
    """The name of a heading in a link."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", WRITTEN, ids=names)
def test_links_lead_to_files_and_headings(page):
    wrong = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        headings = map(anchor, HEADING.findall(file.read_text())) if heading and file.is_file() else [heading]
        if not file.exists() or heading not in headings:
            wrong.append(target)
    assert wrong == []


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert [page for page in pages if page not in navigation] == []


@pytest.fixture(scope="module")
def generate():
    sys.path.insert(0, str(DOCS))  # where the generator finds its texts
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def options(generate) -> dict[str, set[str]]:
    """The options of each command, from the page that is generated from the command line's parser."""
    result = {"triscale": {"-q", "-v", "--debug", "--version", "--help"}}
    for section in re.split(r"^#+ (?=triscale)", generate.commands(), flags=re.M)[1:]:
        title, _, body = section.partition("\n")
        entries = re.findall(r"^\* `([^`]*)`", body, re.M)
        result[title.strip()] = {word.rstrip(",") for one in entries for word in one.split() if word.startswith("-")}
    return result


def test_generated_pages_are_current(generate):
    for page, text in generate.pages().items():
        assert page.read_text() == text, f"{page.name}: run python docs/generate.py"


def shell_commands(page: Path) -> list[str]:
    """Commands of shell blocks and of inline code, one per line, continuation lines joined."""
    text = "\n".join(code for _, code in blocks(page, "")).replace("\\\n", " ")
    lines = [re.sub(r"^.*?-m triscale (-- )?", "triscale ", line.strip()) for line in text.splitlines()]
    lines = [re.sub(r"^docker run .*? triscale (?=[a-z])", "triscale ", line) for line in lines]
    inline = [re.sub(r"\s+", " ", one) for one in INLINE.findall(FENCE.sub("", page.read_text()))]
    return [line for line in lines if line.startswith("triscale ")] + inline


@pytest.mark.parametrize("page", WRITTEN, ids=names)
def test_commands_and_options_exist(page, options):
    wrong = []
    for line in shell_commands(page):
        words = shlex.split(line.split(" # ")[0].split(" && ")[0])
        depth = max(number for number in (1, 2, 3) if " ".join(words[:number]) in options)
        command = " ".join(words[:depth])
        if depth < 2 and len(words) > 1 and not words[1].startswith("-"):
            wrong.append(f"{line}: unknown command")
        given = {word.partition("=")[0] for word in words[depth:] if re.match(r"--?[a-z]", word)}
        if unknown := given - options[command] - options["triscale"]:
            wrong.append(f"{line}: unknown option {', '.join(sorted(unknown))}")
    assert wrong == []


@pytest.mark.parametrize("page", WRITTEN, ids=names)
def test_python_blocks_compile_and_are_marked(page):
    for mark, code in blocks(page, "python"):
        compile(code, str(page), "exec")
        assert is_runnable(mark) or mark.startswith("not run: "), f"{mark}: expected one of {RUNNABLE}"


def is_slow(page: str, mark: str) -> bool:
    """Whether other tests run the same calls by default, or docs/follow.py does in continuous integration."""
    return mark.startswith(NEEDS) or page in ("docs/tutorials/first-classifier.md",
                                              "docs/tutorials/scaling-coefficients.md",
                                              "docs/explanation/transfer.md", "docs/how-to/ci.md",
                                              "docs/how-to/groups-and-folds.md",
                                              "docs/how-to/imbalanced-classes.md")  # fmt: skip


def runnable() -> list[tuple[str, str]]:
    """The Python blocks that a page marks as runnable, one case per page and kind of folder."""
    cases = {}
    for page in WRITTEN:
        for mark, code in blocks(page, "python"):
            if is_runnable(mark):
                cases.setdefault((names(page), mark or "run"), []).append(code)
    return [
        pytest.param(mark, "\n".join(codes), id=f"{page} {mark}", marks=[pytest.mark.stress] * is_slow(page, mark))
        for (page, mark), codes in cases.items()
    ]


@pytest.mark.parametrize(("mark", "code"), runnable())
def test_marked_blocks_run(mark, code, request, tmp_path):
    """They run as printed, in a folder with the run and the photos that the page speaks of."""
    if mark.startswith(NEEDS):
        package = mark.removeprefix(NEEDS)
        pytest.importorskip(package, reason=f"needs the package {package}")
    elif mark != "run":
        trained = request.getfixturevalue("trained_run")
        folder, name = {"run: trained": ("photos", "photos"), "run: practice": ("practice/digits", "digits")}[mark]
        write_classes(tmp_path / folder, 2)
        shutil.copytree(trained, tmp_path / "runs" / name)
        if mark == "run: practice":
            (tmp_path / folder / "test" / "3").mkdir(parents=True)
            shutil.copy(tmp_path / folder / "red" / "000.png", tmp_path / folder / "test" / "3" / "0091.png")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_page_on_budgets_lists_every_kind_of_device():
    page = (ROOT / "docs" / "how-to" / "choose-a-budget.md").read_text()
    for name, (macs, source) in DEVICE_BUDGETS.items():
        assert f"| `{name}` | {ts.Budget(macs=macs)} | {source} |" in page
