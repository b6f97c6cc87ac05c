"""The page as a person uses it: drawing, watching, cancelling, coming back.

The server is a stub: its steps wait, and its refusals come, when a test says so.
"""

import json
import re
from collections.abc import Callable
from io import BytesIO

import pytest
import soundfile
from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.runtime.server.page.stub import Stub

KEPT_FILES = """() => new Promise((resolve) => {
  indexedDB.open("x2i").onsuccess = ({target}) => {
    const asked = target.result.transaction("files").objectStore("files").getAllKeys();
    asked.onsuccess = () => resolve(asked.result);
  };
})"""
# Another tab says, in a row, what became of the one entry that is there; the state then shown, at once.
SAID_BY_ANOTHER_TAB = """(said) => {
  const [key, text] = Object.entries(localStorage).find(([key]) => key.startsWith("x2i.entry."));
  for (const changes of said) {
    const newValue = JSON.stringify({...JSON.parse(text), tab: "another", ...changes});
    window.dispatchEvent(new StorageEvent("storage", {key, newValue}));
  }
  return document.querySelector("article").dataset.state;
}"""
# So many entries like the one that is there, each a little younger.
COPIES = """(number) => {
  const entry = JSON.parse(Object.entries(localStorage).find(([key]) => key.startsWith("x2i.entry."))[1]);
  for (let i = 1; i <= number; i++) {
    const settings = {...entry.settings, prompt: `copy ${i}`};
    const copy = {...entry, key: `copy${i}`, created: entry.created + i, settings};
    localStorage.setItem(`x2i.entry.copy${i}`, JSON.stringify(copy));
  }
}"""


def draw(page: Page, prompt: str) -> Locator:
    """Asks for a picture; its card."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Draw", exact=True).click()
    return card(page, prompt)


def card(page: Page, prompt: str) -> Locator:
    return page.get_by_role("article", name=prompt)


def in_state(shown: Locator, state: str) -> None:
    expect(shown).to_have_attribute("data-state", state)


def test_draws_by_the_keyboard_alone(page: Page, stub: Stub) -> None:
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    page.keyboard.type("青い魚")
    page.keyboard.press("Tab")
    page.keyboard.type("Japanese")
    page.keyboard.press("Control+Enter")
    in_state(card(page, "青い魚"), "done")
    assert stub.last.asked["prompt"] == "青い魚"
    assert stub.last.asked["options"]["language"] == "Japanese"
    picture = page.get_by_role("button", name="青い魚", exact=True)
    for _ in range(20):
        page.keyboard.press("Tab")
        if picture.evaluate("node => node === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(picture).to_be_focused()


def test_shows_previews_and_the_time_left(page: Page, stub: Stub) -> None:
    stub.held, stub.step_seconds = 1, 0.1
    shown = draw(page, "a red apple")
    preview = shown.get_by_role("img", name="Preview: a red apple")
    expect(preview).to_be_visible()
    expect(shown.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "1")
    expect(shown.get_by_role("progressbar")).to_have_attribute("aria-valuemax", "6")
    expect(shown).to_contain_text("Step 1 of 6")
    first = preview.get_attribute("src")
    stub.held = 4
    expect(shown).to_contain_text("Step 4 of 6 · 1 s left")
    expect(page.locator("#live")).to_have_text("50 percent: a red apple")
    stub.held = None
    assert preview.get_attribute("src") != first
    in_state(shown, "done")
    expect(shown.get_by_role("img", name="a red apple", exact=True)).to_be_visible()
    expect(page.locator("#live")).to_have_text("Done: a red apple")
    expect(shown.get_by_role("progressbar")).to_be_hidden()


def test_cancels_what_runs_and_what_waits(page: Page, stub: Stub) -> None:
    stub.held = 1
    running, waiting = draw(page, "one"), draw(page, "two")
    in_state(running, "running")
    expect(waiting).to_contain_text("1 before it in the queue")
    waiting.get_by_role("button", name="Cancel").click()
    in_state(waiting, "cancelled")
    running.get_by_role("button", name="Cancel").click()
    in_state(running, "cancelled")
    assert {job.state for job in stub.jobs.values()} == {"cancelled"}
    stub.held = None
    running.get_by_role("button", name="Try again").click()
    in_state(running, "done")


def test_the_queue_survives_a_reload(page: Page, stub: Stub) -> None:
    finished = draw(page, "before")
    in_state(finished, "done")
    stub.held = 1
    draw(page, "one")
    in_state(draw(page, "two"), "queued")
    page.reload()
    in_state(card(page, "one"), "running")
    in_state(card(page, "two"), "queued")
    # What runs stands before what waits, and both before what is finished.
    expect(page.get_by_role("article").get_by_role("heading")).to_have_text(["one", "two", "before"])
    expect(page.get_by_role("img", name="before", exact=True)).to_be_visible()
    stub.held = None
    in_state(card(page, "one"), "done")
    in_state(card(page, "two"), "done")
    assert [job.asked["prompt"] for job in stub.jobs.values()] == ["before", "one", "two"]


def test_another_tab_shows_the_same(page: Page, stub: Stub, open_page: Callable[[], Page]) -> None:
    stub.held = 1
    draw(page, "one")
    other = open_page()
    in_state(card(other, "one"), "running")
    stub.held = None
    in_state(card(other, "one"), "done")
    in_state(draw(page, "two"), "done")
    in_state(card(other, "two"), "done")
    assert len(stub.jobs) == 2


def test_a_slower_tab_does_not_reopen_what_has_ended(page: Page, stub: Stub) -> None:
    shown = draw(page, "one")
    in_state(shown, "done")
    assert page.evaluate(SAID_BY_ANOTHER_TAB, [{"state": "running", "result": None}]) == "done"
    expect(shown.get_by_role("img", name="one", exact=True)).to_be_visible()


def test_another_tab_tries_again_while_a_result_is_read(page: Page, stub: Stub) -> None:
    shown = draw(page, "one")
    in_state(shown, "done")
    again = {"state": "unsent", "job": None, "result": None}
    assert page.evaluate(SAID_BY_ANOTHER_TAB, [{"job": "another"}, again]) == "unsent"
    expect(shown.get_by_role("img")).to_have_count(0)


def test_uses_settings_again_and_downloads_with_parameters(page: Page, stub: Stub) -> None:
    # Larger than what JavaScript counts exactly.
    page.get_by_label("Seed", exact=True).fill("9007199254740993")
    expect(page.get_by_label("New each time")).not_to_be_checked()
    page.get_by_text("More options").click()
    page.get_by_label("Negative").fill("rain")
    page.get_by_label("Height in pixels").fill("72")
    page.get_by_label("Count").fill("2")
    first = draw(page, "a house")
    in_state(first, "done")
    wanted = {"seed": 9007199254740993, "negative": "rain", "size": [72, 64], "count": 2, "language": "English"}
    assert stub.last.asked["options"] == wanted
    first.get_by_role("button", name="a house, picture 2 of 2").click()
    with page.expect_download() as download:
        page.get_by_role("dialog").get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "a-house-9007199254740993-2.png"
    picture = Image.open(download.value.path())
    assert json.loads(picture.info["parameters"])["options"] == wanted
    page.keyboard.press("Escape")
    page.get_by_label("Seed", exact=True).fill("")
    page.get_by_label("Negative").fill("snow")
    page.get_by_label("New each time").check()
    in_state(draw(page, "a tree"), "done")
    page.reload()
    card(page, "a house").get_by_role("button", name="Use again").click()
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_role("article")).to_have_count(3)
    in_state(page.get_by_role("article").first, "done")
    assert stub.last.asked["options"] == wanted
    assert stub.last.asked["prompt"] == "a house"


def test_a_new_seed_each_time(page: Page, stub: Stub) -> None:
    for count in (1, 2):
        draw(page, "a cat")
        expect(page.get_by_role("article")).to_have_count(count)
        in_state(page.get_by_role("article").first, "done")
    page.get_by_role("button", name="Roll a seed").click()
    rolled = int(page.get_by_label("Seed", exact=True).input_value())
    for count in (3, 4):
        draw(page, "a cat")
        expect(page.get_by_role("article")).to_have_count(count)
        in_state(page.get_by_role("article").first, "done")
    first, second, *again = [job.asked["options"]["seed"] for job in stub.jobs.values()]
    assert first != second
    assert again == [rolled, rolled]


def test_deletes_one_and_all(page: Page, stub: Stub) -> None:
    for prompt in ("one", "two", "three"):
        in_state(draw(page, prompt), "done")
    card(page, "two").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("article")).to_have_count(2)
    page.get_by_role("button", name="Clear all").click()
    page.get_by_role("dialog").get_by_role("button", name="Clear all").click()
    expect(page.get_by_role("article")).to_have_count(0)
    page.reload()
    expect(page.get_by_text("What you draw appears here")).to_be_visible()
    while page.evaluate(KEPT_FILES):
        page.wait_for_timeout(20)


def test_keeps_a_hundred(page: Page, stub: Stub) -> None:
    in_state(draw(page, "first"), "done")
    page.evaluate(COPIES, 99)
    page.reload()
    expect(page.get_by_role("article")).to_have_count(100)
    in_state(draw(page, "last"), "done")
    expect(page.get_by_role("article")).to_have_count(100)
    expect(card(page, "first")).to_have_count(0)


def test_asks_for_the_key(open_page: Callable[[], Page], stub: Stub) -> None:
    stub.key = "correct horse"
    page = open_page()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("asks for a key")
    page.get_by_label("Key", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("refused the key")
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_contain_text("asks for a key")
    page.get_by_role("button", name="Key").click()
    page.get_by_label("Key", exact=True).fill("correct horse")
    page.keyboard.press("Enter")
    in_state(draw(page, "a red apple"), "done")
    page.reload()
    in_state(draw(page, "a green apple"), "done")


def test_a_full_queue_is_tried_again_after_its_time(page: Page, stub: Stub) -> None:
    stub.refusals = 1
    shown = draw(page, "a red apple")
    expect(shown).to_contain_text(re.compile("expected at most 64 waiting, got 64 Tried again in 1 s"))
    in_state(shown, "done")
    stub.refusals = 10
    given_up = draw(page, "a green apple")
    expect(given_up).to_contain_text("Tried again in")
    given_up.get_by_role("button", name="Cancel").click()
    in_state(given_up, "cancelled")
    stub.refusals = 0
    in_state(draw(page, "a blue apple"), "done")
    assert len(stub.jobs) == 2


def test_tells_what_went_wrong(page: Page, stub: Stub) -> None:
    stub.failures = ["steps: expected <b>fewer</b>, got 6; set 5"]
    shown = draw(page, "a red apple")
    in_state(shown, "failed")
    expect(shown).to_contain_text("steps: expected <b>fewer</b>, got 6; set 5")
    steps = page.get_by_label("Steps")
    expect(steps).to_have_attribute("aria-invalid", "true")
    expect(steps).to_have_accessible_description(re.compile("set 5"))
    shown.get_by_role("button", name="Try again").click()
    in_state(shown, "done")
    steps.fill("5")
    expect(steps).not_to_have_attribute("aria-invalid", "true")


def test_a_value_that_cannot_be_right_is_not_sent(page: Page, stub: Stub) -> None:
    page.get_by_label("Prompt", exact=True).fill("a red apple")
    page.get_by_text("More options").click()
    page.get_by_label("Eta").fill("3")
    page.get_by_text("More options").click()
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_label("Eta")).to_be_focused()
    assert stub.jobs == {}


def test_a_lost_connection_is_joined_again(page: Page, stub: Stub, context: BrowserContext) -> None:
    stub.held = 1
    shown = draw(page, "a red apple")
    in_state(shown, "running")
    context.set_offline(True)
    waiting = draw(page, "a green apple")
    expect(waiting).to_contain_text("The server cannot be reached")
    stub.held = None
    context.set_offline(False)
    in_state(shown, "done")
    in_state(waiting, "done")
    stub.held = 1
    forgotten = draw(page, "a blue apple")
    in_state(forgotten, "running")
    stub.jobs.clear()
    page.reload()
    in_state(forgotten, "failed")
    expect(forgotten).to_contain_text("no longer has this")


def test_many_jobs_leave_connections_for_the_rest(page: Page, stub: Stub) -> None:
    stub.held = 1
    for number in range(8):
        draw(page, f"number {number}")
    expect(page.get_by_text("8 under way")).to_be_visible()
    in_state(card(page, "number 7"), "queued")
    card(page, "number 7").get_by_role("button", name="Cancel").click()
    in_state(card(page, "number 7"), "cancelled")
    stub.held = None
    for number in range(7):
        in_state(card(page, f"number {number}"), "done")


def test_plays_and_downloads_sounds(page: Page, stub: Stub) -> None:
    page.get_by_label("Bundle").select_option("music")
    page.get_by_role("button", name="Make a sound").click()
    shown = page.get_by_role("article")
    in_state(shown, "done")
    expect(shown.locator("audio")).to_be_visible()
    with page.expect_download() as download:
        shown.get_by_role("button", name="Download").click()
    assert re.fullmatch(r"music-\d+\.wav", download.value.suggested_filename)
    samples, rate = soundfile.read(download.value.path())
    assert (len(samples), rate) == (4000, 16000)


@pytest.mark.parametrize("given", [b"<svg xmlns='http://www.w3.org/2000/svg' width='30' height='20'/>", b"no picture"])
def test_texts_and_pictures_of_other_kinds(page: Page, stub: Stub, given: bytes) -> None:
    page.get_by_label("Bundle").select_option("captions")
    expect(page.get_by_label("Prompt", exact=True)).to_be_hidden()
    expect(page.get_by_label("Guidance")).to_have_count(0)
    page.locator("#option-image").set_input_files({"name": "a.svg", "mimeType": "image/svg+xml", "buffer": given})
    if given == b"no picture":
        expect(page.get_by_role("alert").filter(has_text="expected a picture")).to_be_visible()
        return
    expect(page.get_by_role("img", name="Picture 1: a.svg")).to_be_visible()
    page.get_by_text("More options").click()
    page.get_by_label("Temperature").fill("1.5, 0")
    page.get_by_label("Untruncated").check()
    page.get_by_label("Loop").select_option("chain")
    page.get_by_role("button", name="Describe").click()
    expect(page.get_by_role("article")).to_contain_text("a red apple")
    assert stub.last.asked["prompt"] is None
    assert {**stub.last.asked["options"], "seed": 0} == {
        "temperature": [1.5, 0],
        "untruncated": True,
        "loop": "chain",
        "seed": 0,
    }
    sent = Image.open(BytesIO(stub.last.files["image"][0]))
    assert (sent.format, sent.size) == ("PNG", (30, 20))
