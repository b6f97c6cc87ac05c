"""What a person gives beside words: pictures in order, a painted mask, a sound from the microphone."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
import soundfile
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.runtime.server.page.stub import Stub, png

GIVE = """(node, [event, base64, name, type]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, {type}));
  const made = event === 'paste'
    ? new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})
    : new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});
  node.dispatchEvent(made);
}"""


def picture(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    return png(np.full((height, width, 3), colour), (width, height), {})


def give(node: Locator, event: str, content: bytes, name: str = "a.png", kind: str = "image/png") -> None:
    """Drops or pastes a file on an element."""
    node.evaluate(GIVE, [event, base64.b64encode(content).decode(), name, kind])


def drawn(page: Page) -> None:
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_role("article").first).to_have_attribute("data-state", "done")


@pytest.fixture
def pictures(page: Page) -> Page:
    """The page with the bundle that takes pictures and a mask."""
    page.get_by_label("Bundle").select_option("pictures")
    return page


def test_pictures_come_by_every_way_and_keep_their_order(pictures: Page, stub: Stub) -> None:
    chosen, dropped, pasted = picture(30, 20, (255, 0, 0)), picture(21, 33, (0, 255, 0)), picture(8, 8, (0, 0, 255))
    field = pictures.get_by_role("group", name="Image")
    names = field.get_by_role("img")
    pictures.locator("#option-image").set_input_files({"name": "chosen.png", "mimeType": "image/png", "buffer": chosen})
    expect(names).to_have_count(1)
    give(field.locator(".zone"), "drop", dropped, "dropped.png")
    expect(names).to_have_count(2)
    # Not on the zone, but anywhere.
    give(pictures.locator("body"), "paste", pasted, "pasted.png")
    expect(names).to_have_count(3)
    field.get_by_role("button", name="Camera").click()
    pictures.get_by_role("button", name="Take the picture").click()
    expect(names).to_have_count(4)
    field.get_by_role("button", name="Move Picture 3 forward").click()
    field.get_by_role("button", name="Move Picture 2 forward").click()
    field.get_by_role("button", name="Remove Picture 4").click()
    alts = [node.get_attribute("alt") for node in names.all()]
    assert alts == ["Picture 1: pasted.png", "Picture 2: chosen.png", "Picture 3: dropped.png"]
    names.nth(2).locator("..").drag_to(names.nth(0).locator(".."))
    expect(names.nth(0)).to_have_attribute("alt", "Picture 1: dropped.png")
    drawn(pictures)
    assert stub.last.files == {"image": [dropped, pasted, chosen]}


def test_pictures_come_back_with_their_settings(pictures: Page, stub: Stub) -> None:
    given = picture(30, 20, (255, 0, 0))
    give(pictures.locator("body"), "drop", given)
    drawn(pictures)
    pictures.reload()
    pictures.get_by_label("Bundle").select_option("words")
    pictures.get_by_role("button", name="Use again").click()
    expect(pictures.get_by_role("img", name="Picture 1: a.png")).to_be_visible()
    drawn(pictures)
    expect(pictures.get_by_role("article")).to_have_count(2)
    assert [job.files for job in stub.jobs.values()] == [{"image": [given]}, {"image": [given]}]


def test_large_pictures_are_made_smaller(pictures: Page, stub: Stub) -> None:
    out = BytesIO()
    Image.new("RGB", (6000, 4000), "red").save(out, "JPEG")
    give(pictures.locator("body"), "drop", out.getvalue(), "photo.jpg", "image/jpeg")
    expect(pictures.get_by_role("img", name="Picture 1: photo.jpg")).to_be_visible()
    drawn(pictures)
    width, height = Image.open(BytesIO(stub.last.files["image"][0])).size
    # Ten of them together have as many pixels as the server takes.
    assert width * height <= 2**24 / 10
    assert width / height == pytest.approx(1.5, rel=2e-3)


def paint(page: Page, *points: tuple[float, float]) -> None:
    """Draws with the pointer through points, in shares of the canvas."""
    box = page.locator("#painter-canvas").bounding_box()
    assert box is not None
    x, y = zip(*points, strict=True)
    places = [(box["x"] + box["width"] * at, box["y"] + box["height"] * down) for at, down in zip(x, y, strict=True)]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()


def sent_mask(page: Page, stub: Stub) -> np.ndarray:
    """What the server got: float, 0 to 1."""
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("group", name="Mask").get_by_role("img")).to_be_visible()
    drawn(page)
    mask = Image.open(BytesIO(stub.last.files["mask"][0]))
    assert mask.format == "PNG"
    return np.asarray(mask.convert("RGB"), np.float32) / 255


def test_paints_a_mask_of_the_picture_upright(pictures: Page, stub: Stub) -> None:
    # A camera that was turned: stored as 90 x 60, seen as 60 x 90.
    out = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 60), "red").save(out, "JPEG", exif=exif)
    mask_field = pictures.get_by_role("group", name="Mask")
    expect(mask_field.get_by_role("button", name="Paint")).to_be_disabled()
    give(pictures.locator("body"), "drop", out.getvalue(), "photo.jpg", "image/jpeg")
    mask_field.get_by_role("button", name="Paint").click()
    paint(pictures, (0.2, 0.5), (0.8, 0.5))
    paint(pictures, (0.5, 0.1), (0.5, 0.2))
    pictures.get_by_role("button", name="Undo").click()
    pictures.get_by_role("button", name="Erase").click()
    paint(pictures, (0.5, 0.4), (0.5, 0.6))
    mask = sent_mask(pictures, stub)
    assert mask.shape == (90, 60, 3)
    assert mask[45, 15].tolist() == mask[45, 45].tolist() == [1, 1, 1]
    assert mask[[14, 45, 80], [30, 30, 30]].max() == 0
    assert set(np.unique(mask[:20])) == {0}


def test_a_mask_is_inverted_and_painted_on_by_keys(pictures: Page, stub: Stub) -> None:
    give(pictures.locator("body"), "drop", picture(40, 40, (9, 9, 9)))
    paint_button = pictures.get_by_role("group", name="Mask").get_by_role("button", name="Paint")
    paint_button.click()
    pictures.locator("#painter-canvas").focus()
    pictures.keyboard.press("Space")
    pictures.get_by_role("button", name="Invert").click()
    pictures.get_by_role("button", name="Done").click()
    # It is opened again as it was left.
    paint_button.click()
    pictures.get_by_role("button", name="Erase").click()
    pictures.locator("#painter-canvas").focus()
    for _ in range(16):
        pictures.keyboard.press("ArrowRight")
    pictures.keyboard.press("Space")
    mask = sent_mask(pictures, stub)
    assert mask[20, 20].max() == 0
    assert mask[20, 36].max() == 0
    assert mask[2, 2].min() == mask[38, 20].min() == mask[20, 10].min() == 1


def test_a_mask_goes_with_its_picture(pictures: Page, stub: Stub) -> None:
    give(pictures.locator("body"), "drop", picture(40, 40, (9, 9, 9)))
    field = pictures.get_by_role("group", name="Mask")
    field.get_by_role("button", name="Paint").click()
    paint(pictures, (0.2, 0.2), (0.7, 0.7))
    pictures.get_by_role("button", name="Done").click()
    expect(field.get_by_role("img")).to_have_count(1)
    pictures.get_by_role("button", name="Remove Picture 1").click()
    expect(field.get_by_role("img")).to_have_count(0)
    give(field.locator(".zone"), "drop", picture(40, 40, (255, 255, 255)), "mask.png")
    expect(field.get_by_role("img")).to_have_count(1)
    give(pictures.locator("body"), "drop", picture(40, 40, (9, 9, 9)))
    drawn(pictures)
    assert [*stub.last.files] == ["image", "mask"]


def test_records_a_sound(page: Page, stub: Stub) -> None:
    page.get_by_label("Bundle").select_option("sounds")
    page.get_by_role("button", name="Record").click()
    # The fake device beeps once a second.
    expect(page.get_by_text(re.compile(r"^[1-9]\d* s$"))).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#media audio")).to_be_visible()
    drawn(page)
    (sent,) = stub.last.files["sound"]
    samples, rate = soundfile.read(BytesIO(sent))
    assert soundfile.info(BytesIO(sent)).subtype == "PCM_16"
    assert 0.5 < len(samples) / rate < 4
    assert np.abs(samples).max() > 0.1
    page.reload()
    page.get_by_role("button", name="Use again").click()
    expect(page.locator("#media audio")).to_be_visible()


def test_sounds_that_the_server_reads_go_as_they_are(page: Page, stub: Stub) -> None:
    page.get_by_label("Bundle").select_option("sounds")
    out = BytesIO()
    soundfile.write(out, np.sin(np.arange(4000) / 9), 16000, format="FLAC")
    give(page.locator("body"), "drop", out.getvalue(), "a.flac", "audio/flac")
    expect(page.locator("#media audio")).to_be_visible()
    drawn(page)
    assert stub.last.files == {"sound": [out.getvalue()]}
    give(page.locator("#media .zone"), "drop", b"no sound at all", "a.mp3", "audio/mpeg")
    expect(page.get_by_role("alert").filter(has_text="expected a sound")).to_be_visible()
