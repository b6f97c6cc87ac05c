"""A browser, a stub of the server, and a page that must not complain."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.runtime.server.page.stub import Stub, serving

# Two workers share two cores, and a browser starts more threads than that.
PATIENCE_MILLISECONDS = 20_000
VIOLATIONS = "window.violations = []; addEventListener('securitypolicyviolation', (e) => violations.push(e.blockedURI))"
# The microphone and the camera of a browser without any: beeps, and a picture that moves.
FAKE_DEVICES = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the system. A module has its own, for its event loop would be in the way of other tests."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FAKE_DEVICES)
        yield browser
        browser.close()


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def address(stub: Stub) -> Iterator[str]:
    with serving(stub.app()) as address:
        yield address


@pytest.fixture
def context(browser: Browser, address: str) -> Iterator[BrowserContext]:
    """A person's browser: what it keeps ends with the test."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 860}, locale="en-GB")
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    context.grant_permissions(["microphone", "camera"])
    context.add_init_script(VIOLATIONS)
    yield context
    context.close()


@pytest.fixture
def open_page(context: BrowserContext) -> Iterator[Callable[[], Page]]:
    """Opens the page, once the form is there. In the end nothing may have been said on the console, beside the answers
    of status 4xx that Chromium lists itself, and the policy may not have been broken."""
    said: list[str] = []
    pages: list[Page] = []

    def opened() -> Page:
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"{error}\n{error.stack}"))
        page.goto("/")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        assert page.evaluate("window.violations") == []
    assert [line for line in said if "Failed to load resource" not in line] == []


@pytest.fixture
def page(open_page: Callable[[], Page]) -> Page:
    page = open_page()
    expect(page.locator("#form")).to_be_visible()
    return page
