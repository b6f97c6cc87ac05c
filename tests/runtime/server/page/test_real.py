"""The page before the server itself: an embedded bundle draws what is asked for, and tiny ones take what is given."""

import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from x2i.runtime.load import load
from x2i.runtime.server.app import create_app
from x2i.runtime.server.settings import ServerSettings

from tests.runtime.server.page.stub import serving
from tests.runtime.server.page.test_drawing import card, draw, in_state


@pytest.fixture(scope="module")
def address(embedded_bundle: Path, elite_bundle: Path, sound_bundle: Path) -> Iterator[str]:
    """A server of three bundles, in the place of the stub."""
    settings = ServerSettings((embedded_bundle, elite_bundle, sound_bundle), backend="cpu", drain_seconds=1)
    with serving(create_app(settings)) as address:
        yield address


@pytest.fixture
def page(open_page: Callable[[], Page]) -> Page:
    page = open_page()
    expect(page.locator("#form")).to_be_visible()
    return page


def test_draws_what_x2i_run_draws(page: Page, embedded_bundle: Path, tmp_path: Path) -> None:
    page.get_by_label("Bundle").select_option(embedded_bundle.name)
    page.get_by_label("Language").select_option("German")
    page.get_by_label("Seed", exact=True).fill("3")
    page.get_by_label("Steps").fill("5")
    shown = draw(page, "ein roter Apfel")
    in_state(shown, "done")
    with page.expect_download() as download:
        shown.get_by_role("button", name="Download").click()
    picture = Image.open(download.value.path())
    expected = load(embedded_bundle)("ein roter Apfel", language="German", seed=3, steps=5).images[0]
    assert np.array_equal(np.asarray(picture), np.asarray(expected))
    # The parameters that every PNG of x2i carries.
    assert any("ein roter Apfel" in str(text) for text in picture.info.values())


def test_watches_and_cancels(page: Page, embedded_bundle: Path) -> None:
    page.get_by_label("Bundle").select_option(embedded_bundle.name)
    page.get_by_label("Steps").fill("500")
    page.get_by_label("Count").fill("4")
    running, waiting = draw(page, "un chat"), draw(page, "a tree")
    expect(running.get_by_role("img", name="Preview: un chat")).to_have_count(4)
    expect(running).to_contain_text(re.compile(r"Step \d+ of 500 · .* left"))
    page.reload()
    expect(running.get_by_role("img", name="Preview: un chat")).to_have_count(4)
    for shown in (waiting, running):
        shown.get_by_role("button", name="Cancel").click()
        in_state(shown, "cancelled")
    page.get_by_label("Steps").fill("1001")
    draw(page, "too many")
    expect(page.get_by_label("Steps")).to_be_focused()
    expect(card(page, "too many")).to_have_count(0)


def test_takes_a_subject_with_a_painted_mask(page: Page, elite_bundle: Path) -> None:
    page.get_by_label("Bundle").select_option(elite_bundle.name)
    out = BytesIO()
    Image.new("RGB", (70, 50), "red").save(out, "PNG")
    page.locator("#option-subject").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": out.getvalue()}
    )
    page.get_by_role("button", name="Paint").click()
    page.get_by_role("slider", name="Brush").fill("100")
    page.locator("#painter-canvas").click()
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("group", name="Mask").get_by_role("img")).to_be_visible()
    page.get_by_label("Steps").fill("2")
    in_state(draw(page, "a S on the beach"), "done")
    refused = draw(page, "no word that stands for it")
    in_state(refused, "failed")
    expect(refused).to_contain_text("expected")


def test_takes_a_recorded_sound(page: Page, sound_bundle: Path) -> None:
    page.get_by_label("Bundle").select_option(sound_bundle.name)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_text(re.compile(r"^[1-9]\d* s$"))).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#media audio")).to_be_visible()
    page.get_by_label("Steps").fill("2")
    page.get_by_role("button", name="Draw", exact=True).click()
    in_state(page.get_by_role("article"), "done")
