"""The reports as a browser shows them: every page is opened in headless Chromium and asked about itself."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import committed
from tiny_run import build, study
from visionclip import runs
from visionclip.report import cards

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --hide-scrollbars"
)
COMMITTED = [runs.ROOT / "reports" / name for name in sorted(set(committed.FOLDERS.values()))]
POLICY = re.compile(r'<meta content="[^"]*" http-equiv="Content-Security-Policy"/?>|<meta http-equiv="Content-S[^>]*>')
WIDTHS = (390, 1280)  # a phone and a desk: frames, since a headless window is at least 500 pixels wide
FRAME = '<iframe style="border:0;width:{}px;height:900px" srcdoc="{}"></iframe>'
# The page's own policy forbids scripts, so the copy gets one that allows inline scripts and still reports all else.
LISTENER = """<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'self' file:; script-src 'unsafe-inline'">
<script>
const refused = [];
addEventListener("securitypolicyviolation", event => refused.push(event.blockedURI));
</script>
"""
LEAST = 4.5  # contrast of text with what is behind it, of large text 3 (WCAG 2.2, success criterion 1.4.3)
PROBE = """<script>addEventListener("load", () => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => channels(colour).slice(0, 3).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor, parts = channels(colour);
      if (parts.length < 4 || parts[3] === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const contrast = element => {
    const [dark, light] = [getComputedStyle(element).color, behind(element)].map(luminance).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const speaks = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const large = element => parseFloat(getComputedStyle(element).fontSize) >= 24;
  const width = document.documentElement.clientWidth;
  const scrolls = element => element.closest(".scroll, pre, .math.block");
  const probe = document.createElement("pre");
  const found = {
    width, refused,
    overflow: document.documentElement.scrollWidth - width,
    wide: [...document.body.querySelectorAll("*")].filter(element => !scrolls(element)
      && element.getBoundingClientRect().right > width + 1).map(element => element.outerHTML.slice(0, 120)),
    images: [...document.images].map(image => [image.naturalWidth, image.clientWidth, image.alt]),
    folded: document.querySelectorAll("details").length,
    open: document.querySelectorAll("details[open]:not(.failed details)").length,
    measure: getComputedStyle(document.documentElement).getPropertyValue("--measure").trim(),
    faint: [...document.body.querySelectorAll("*")].filter(speaks).map(element => [contrast(element), element])
      .filter(([ratio, element]) => ratio < (large(element) ? 3 : LEAST))
      .map(([ratio, element]) => ratio.toFixed(2) + " " + element.outerHTML.slice(0, 120)),
    titles: [document.documentElement.lang, document.title, document.querySelectorAll("h1").length],
    paper: getComputedStyle(document.documentElement).backgroundColor,
  };
  const figure = document.querySelector("figure[tabindex]");
  if (figure) {
    const image = figure.querySelector("img");
    figure.focus();
    found.enlarged = [image.clientWidth, document.documentElement.scrollWidth - width, figure.scrollWidth];
    figure.blur();
    found.again = image.clientWidth;
  }
  probe.className = "probe";
  probe.textContent = JSON.stringify(found);
  parent.document.body.append(probe);
});</script></body>""".replace("LEAST", str(LEAST))

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the path")


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> Path:
    return build(study(tmp_path_factory.mktemp("study")))


def browse(page: Path, scratch: Path, *flags: str) -> str:
    profile = scratch / "profile"
    command = [BROWSER, *FLAGS.split(), f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    shutil.rmtree(profile, ignore_errors=True)
    return done.stdout


def probe(page: Path, scratch: Path, *flags: str) -> list[dict]:
    """What a copy of ``page`` says of itself at each of ``WIDTHS``."""
    text, replaced = POLICY.subn(lambda _: LISTENER, page.read_text("utf-8"))
    assert replaced == 1
    inner = html.escape(text.replace("</body>", PROBE))
    shutil.copyfile(page.parent / "style.css", scratch / "style.css")
    copy = scratch / page.name
    copy.write_text('<!doctype html><meta charset="utf-8">' + "".join(FRAME.format(w, inner) for w in WIDTHS), "utf-8")
    dom = browse(copy, scratch, *flags, "--dump-dom")
    found = [json.loads(html.unescape(text)) for text in re.findall(r'<pre class="probe">(.*?)</pre>', dom, re.DOTALL)]
    assert sorted(one["width"] for one in found) == sorted(WIDTHS), page.name
    return sorted(found, key=lambda one: one["width"])


def hold(folder: Path, scratch: Path) -> None:
    """Every page of ``folder`` is whole, fits phone and desk, can be read, is styled and asks nothing of others."""
    pages = sorted(folder.glob("*.html"))
    assert pages
    for page in pages:
        for found in probe(page, scratch):
            width, where = found["width"], (page.name, found["width"])
            assert found["overflow"] <= 0, (where, found["wide"])
            assert not found["wide"], where
            assert all(natural > 0 and shown <= width and alt for natural, shown, alt in found["images"]), where
            if figure := found.get("enlarged"):
                large, overflow, scrolled = figure
                assert overflow <= 0, where
                assert width > 720 or (large == 760 and scrolled >= 760 > found["again"]), (where, figure)
            assert not found["refused"], where
            assert not found["faint"], where
            language, title, headings = found["titles"]
            assert language, where
            assert title, where
            assert headings == 1, where
            assert found["measure"] == "78ch", where
            assert found["open"] == 0, where
            assert found["folded"] > 0 or page.stem in ("index", *cards.NAMES), where


@pytest.mark.slow
def test_every_page_of_a_study_holds_on_a_phone_and_on_a_desk(reports, tmp_path):
    hold(reports, tmp_path)


@pytest.mark.parametrize("page", ["index.html", "01-synthesis.html"])
def test_a_screenshot_is_not_blank(reports, tmp_path, page):
    browse(reports / page, tmp_path, "--window-size=1280,900", f"--screenshot={tmp_path / 'shot.png'}")
    grey = np.asarray(Image.open(tmp_path / "shot.png").convert("L"))
    assert grey.shape == (900, 1280)
    assert 0.005 < (np.abs(grey.astype(int) - np.median(grey)) > 40).mean() < 0.9


def test_the_dark_scheme_is_dark_and_can_be_read(reports, tmp_path):
    for page in sorted(reports.glob("*.html")):
        found = probe(page, tmp_path, "--force-dark-mode")[0]
        assert max(map(int, re.findall(r"\d+", found["paper"])[:3])) < 40
        assert not found["faint"], page.name


def test_the_probe_sees_a_broken_image_an_overflow_an_outside_request_and_faint_text(reports, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    shutil.copyfile(reports / "style.css", folder / "style.css")
    text = (reports / "index.html").read_text("utf-8")
    broken = (
        '<img alt="" src="data:image/png;base64,AAAA"><img alt="" src="http://127.0.0.1:9/x.png">'
        '<table width="3000"><tr><td>wide</td></tr></table><font color="#999999">faint</font></main>'
    )
    (folder / "x.html").write_text(text.replace("</main>", broken), "utf-8")
    found = probe(folder / "x.html", tmp_path)[0]
    assert found["overflow"] > 0
    assert found["images"][-2][0] == 0, "the index has pictures of its own before"
    assert "http://127.0.0.1:9/x.png" in found["refused"]
    assert [line[:4] for line in found["faint"]] == ["2.82"]


@pytest.mark.slow
def test_the_reports_in_the_repository_hold_and_are_small(tmp_path):
    for folder in COMMITTED:
        hold(folder, tmp_path)
    # 01, 04, 06, 07 and 10 show eyes and curves of 1.2 to 1.7 MB each
    assert sum(path.stat().st_size for folder in COMMITTED for path in folder.iterdir()) <= 12 * 10**6
