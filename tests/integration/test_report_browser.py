"""The page in a real browser: nothing scrolls sideways, everything is drawn."""

import re
import runpy
import subprocess
from html import escape
from pathlib import Path

import pytest

from miaotui.measure.result import OptimizationResult
from miaotui.report.page import page

pytestmark = [pytest.mark.integration, pytest.mark.needs_browser]

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (1280, 390)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
PROBE = """<script>
const seen = window.top.document.documentElement.dataset, root = document.documentElement;
seen.scroll = root.scrollWidth;
seen.inner = window.innerWidth;
seen.drawn = [...document.querySelectorAll("figure > svg")]
  .filter((svg) => svg.getBoundingClientRect().height > 50).length;
</script>"""
FRAME = """<!doctype html><html><body style="margin: 0">
<iframe style="border: 0; width: {width}px; height: 1600px" srcdoc="{page}"></iframe>"""
"""A window is never narrower than 500 pixels, whatever is asked; a frame is."""


def example_result() -> OptimizationResult:
    shared = Path(__file__).parents[1] / "unit" / "report_example.py"
    return runpy.run_path(str(shared))["example_result"]()


def framed_page(folder: Path, width: int) -> Path:
    """The page with a script that measures it, which its own policy would not let run."""
    html, removed = POLICY.subn("", page(example_result()))
    assert removed == 1
    probed = html.replace("</body>", f"{PROBE}</body>")
    path = folder / "framed.html"
    path.write_text(FRAME.format(width=width, page=escape(probed)), encoding="utf-8")
    return path


def run(browser: Path, shown: Path, profile: Path, width: int, *options: str) -> str:
    command = [
        browser,
        *OPTIONS,
        f"--user-data-dir={profile}",
        f"--window-size={width},1600",
        *options,
        shown.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def measured(html: str, name: str) -> int:
    found = re.search(rf'data-{name}="(\d+)"', html)
    assert found is not None, f"the probe did not write data-{name}"
    return int(found[1])


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_scrolls_sideways(browser: Path, tmp_path: Path, width: int) -> None:
    shown = framed_page(tmp_path, width)
    dom = run(browser, shown, tmp_path / "profile", width, "--dump-dom")
    assert measured(dom, "inner") == width
    assert measured(dom, "scroll") <= measured(dom, "inner")
    assert measured(dom, "drawn") == 5
    assert "评论-minilm-fast" in dom


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_can_be_photographed(browser: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    shown = framed_page(tmp_path, width)
    run(browser, shown, tmp_path / "profile", width, f"--screenshot={picture}")
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == width
    assert len(content) > 20_000
