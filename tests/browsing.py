"""Pages in real headless Chromium, which fail a test on any complaint of the browser and any request to anywhere."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "/usr/bin/chromium", "chromium-browser"))), None)
_ARGUMENTS = [
    "--no-sandbox",  # for root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")


@contextmanager
def run_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, *, width: int = 1400, **options: Any) -> Iterator[Page]:
    """The file, opened without a network and drawn. At the end it must have asked for nothing and complained of
    nothing."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("request", lambda request: complaints.append(f"request: {request.url}"))
    page.goto(file.as_uri())
    complaints.remove(f"request: {file.as_uri()}")
    if options.get("java_script_enabled", True):
        page.locator("html[data-ready]").wait_for(state="attached")
    yield page
    context.close()
    assert not complaints, complaints


def wait_until(page: Page, holds: Callable[[], bool]) -> None:
    """Asks again for up to ten seconds: the page's policy refuses the browser's own waiting for an expression."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come to hold")


def picture(browser: Browser, png: bytes) -> tuple[int, int, int]:
    """Width, height and number of colours of an image, decoded by the browser."""
    page = browser.new_page()
    found = page.evaluate(
        """async (url) => {
            const image = new Image();
            image.src = url;
            await image.decode();
            const canvas = new OffscreenCanvas(image.width, image.height);
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
            return [image.width, image.height, new Set(pixels).size];
        }""",
        f"data:image/png;base64,{base64.b64encode(png).decode()}",
    )
    page.close()
    width, height, colours = found
    return width, height, colours
