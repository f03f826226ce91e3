"""The Chromium that is installed, without a network, as tests drive it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def need_browser() -> None:
    """Skips the test where no Chromium is installed, or fails it if REQUIRE_BROWSER is set."""
    if _PATH is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("no Chromium is installed, and REQUIRE_BROWSER forbids to skip this test")
        pytest.skip("no Chromium is installed (apt-get install chromium)")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium, closed after the block."""
    need_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_PATH, args=_FLAGS)
        yield browser
        browser.close()
