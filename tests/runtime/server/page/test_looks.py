"""What holds of the page whoever looks: one file, its policy, narrow screens, both schemes, names for every control."""

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from x2i.runtime.server.page.page import page as joined

from tests.architecture import FILE_LINES, ROOT
from tests.runtime.server.page.stub import PICTURES, Stub, options

# Every text's contrast with what is behind it, where that is one colour; the worst first.
CONTRASTS = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parts(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const said = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!(said || node.placeholder) || !node.checkVisibility() || node.disabled) continue;
    const [one, other] = [parts(getComputedStyle(node).color), behind(node)].map(luminance);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([ratio, `${node.tagName} ${node.className} ${node.textContent.slice(0, 30)}`]);
  }
  return found.sort(([one], [other]) => one - other);
}"""
NAMELESS = """() => [...document.querySelectorAll('button, input, select, textarea, a, canvas, meter, audio')]
  .filter((node) => node.checkVisibility() && !node.classList.contains('hidden'))
  .filter((node) => !node.labels?.length && !node.ariaLabel && !node.textContent.trim())
  .filter((node) => !node.querySelector('img[alt]'))
  .map((node) => node.outerHTML)"""


def everything(page: Page, stub: Stub) -> None:
    """A page full of what it can show."""
    page.get_by_label("Bundle").select_option("pictures")
    page.get_by_text("More options").click()
    page.get_by_label("Prompt", exact=True).fill("a-very-long-word-" * 20)
    draw = page.get_by_role("button", name="Draw", exact=True)
    draw.click()
    expect(page.locator(".card[data-state=done]")).to_have_count(1)
    stub.failures = ["sampler: expected another, got this\n" + "x" * 300]
    draw.click()
    expect(page.locator(".card[data-state=failed]")).to_have_count(1)
    stub.held = 1
    draw.click()
    expect(page.get_by_role("img", name="Preview")).to_be_visible()


def test_one_file_that_asks_nobody() -> None:
    text, policy = joined()
    addresses = re.findall(r"https?://[^'\"\s>]+", text)
    assert {*addresses} == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\son\w+=|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_sources_are_as_short_as_python_ones() -> None:
    for path in (ROOT / "runtime/server/page").glob("*.js"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert max(map(len, lines)) <= 120, path.name
        assert len(lines) <= FILE_LINES, path.name


def test_the_policy_names_exactly_what_is_inside() -> None:
    text, policy = joined()
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)
        assert f"{tag}-src 'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'" in policy


def test_the_policy_stops_what_is_put_in(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'bad = 1'}))")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=https://example.com/a.png onerror=bad=2>')")
    while not {"inline", "https://example.com/a.png"} <= {*page.evaluate("violations")}:
        page.wait_for_timeout(20)
    assert page.evaluate("window.bad") is None


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_nothing_scrolls_sideways(page: Page, stub: Stub, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    everything(page, stub)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    stub.held = None
    expect(page.locator(".card[data-state=done]")).to_have_count(2)
    page.locator(".picture").first.click()
    assert page.locator("#viewer").evaluate("node => node.scrollWidth <= node.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast_and_controls_have_names(page: Page, stub: Stub, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    everything(page, stub)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(18, 21, 24)") == (scheme == "dark")
    worst, where = page.evaluate(CONTRASTS)[0]
    assert worst >= 4.5, where
    assert page.evaluate(NAMELESS) == []


def test_a_new_option_needs_no_page(open_page: Callable[[], Page], stub: Stub) -> None:
    shown = {"type": "integer", "minimum": 3, "form": "count", "description": "<i>How many legs.</i>"}
    hidden = {"type": "string", "form": "array"}
    bundle = PICTURES | {
        "name": "new",
        "options": options("seed", "noise", "subject") | {"legs": shown, "later": hidden},
    }
    stub.bundles = [bundle]
    page = open_page()
    page.get_by_text("More options").click()
    expect(page.get_by_label("Legs")).to_have_accessible_description("<i>How many legs.</i>")
    expect(page.get_by_role("group", name="Subject")).to_be_visible()
    expect(page.get_by_text("Noise", exact=True)).to_have_count(0)
    expect(page.get_by_text("Later", exact=True)).to_have_count(0)
    page.get_by_label("Legs").fill("4")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".card[data-state=done]")).to_have_count(1)
    assert stub.last.asked["options"]["legs"] == 4
