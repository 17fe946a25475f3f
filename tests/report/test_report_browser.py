"""Reports in a real browser: no console messages, no horizontal overflow, visible content."""

import html
import json
import re
import shutil
import subprocess

import pytest

from report import report_samples as samples
from triscale.report.render import render_run
from triscale.report.run.run_content import RunContent

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.process, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")]

# The page runs no script, so the page around it measures it.
HARNESS = """<!doctype html><meta charset="utf-8"><style>body {{ margin: 0 }} iframe {{ border: 0; width: {width}px;
height: 900px }}</style><iframe srcdoc="{page}"></iframe><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const outside = [...page.querySelectorAll("body *")].filter(item => !item.closest(".scroll, svg, pre")
    && item.getBoundingClientRect().right > root.clientWidth + 1).map(item => item.outerHTML.slice(0, 80));
  const cut = [...page.querySelectorAll(".drawing svg")].flatMap(drawing => {{
    const frame = drawing.getBoundingClientRect();
    return [...drawing.querySelectorAll("text")].filter(item => {{
      const box = item.getBoundingClientRect();
      return item.textContent.trim() && (box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
    }}).map(item => [drawing.querySelector("title").textContent, item.textContent]);
  }});
  const broken = [...page.images].filter(item => !item.naturalWidth).length;
  document.body.dataset.seen = JSON.stringify({{scroll: root.scrollWidth, client: root.clientWidth, outside, broken,
    cut, height: root.scrollHeight}});
}});</script>"""


def browse(folder, name, *flags):
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", *flags, (folder / name).as_uri(),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("chromium did not answer within 90 seconds")
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, messages


def fits(folder, page, width):
    """Check that nothing of a page overflows a frame of a width and the console is silent; return what was measured."""
    (folder / "around.html").write_text(HARNESS.format(width=width, page=html.escape(page)), encoding="utf-8")
    dumped, messages = browse(folder, "around.html", "--window-size=1500,1000", "--dump-dom")
    assert messages == []
    result = re.search(r'data-seen="([^"]*)"', dumped)
    assert result, "the page around did not measure"
    network_maps = json.loads(html.unescape(result[1]))
    assert network_maps["outside"] == []
    assert network_maps["scroll"] <= network_maps["client"]
    assert network_maps["broken"] == 0
    assert network_maps["cut"] == []
    return network_maps


@pytest.mark.parametrize("width", [390, 500, 1280])
@pytest.mark.parametrize("sample", ["digits", "hostile", "hundred"])
@pytest.mark.stress
def test_no_overflow_and_no_console_messages(tmp_path, width, sample):
    if sample == "hundred":
        names = [f"class number {index} with a long name" for index in range(100)]
        content = samples.digits().replace(metrics=samples.metrics(names, 4000, 0.8))
    else:
        content = getattr(samples, sample)()
    network_maps = fits(tmp_path, render_run(content), width)
    assert network_maps["height"] > 3000


@pytest.mark.parametrize("flags", [(), ("--blink-settings=preferredColorScheme=0",)], ids=["light", "dark"])
def test_screenshot_is_not_blank(tmp_path, flags):
    from PIL import Image

    (tmp_path / "report.html").write_text(render_run(samples.digits()), encoding="utf-8")
    target = tmp_path / "seen.png"
    browse(tmp_path, "report.html", "--window-size=1360,1000", "--hide-scrollbars", f"--screenshot={target}", *flags)
    with Image.open(target) as image:
        colors = image.convert("RGB").getcolors(maxcolors=1 << 24)
    assert len(colors) > 50
    background = max(colors)[1]
    assert (sum(background) < 384) == bool(flags)


def test_minimal_report_prints(tmp_path):
    (tmp_path / "report.html").write_text(render_run(RunContent(title="bare")), encoding="utf-8")
    target = tmp_path / "printed.pdf"
    browse(tmp_path, "report.html", f"--print-to-pdf={target}")
    assert target.read_bytes().startswith(b"%PDF")
