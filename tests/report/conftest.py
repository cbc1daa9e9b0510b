"""One browser a module, and a page that must have neither errors, dialogs nor requests when a test is done with it."""

import pytest
from browser import Browser


@pytest.fixture(scope="module")
def browser():
    with Browser() as chromium:
        yield chromium


@pytest.fixture
def page(request, browser):
    """Of the module's SCREEN: width and height in pixels."""
    opened = browser.page(*request.module.SCREEN)
    yield opened
    opened.close()
    assert not opened.errors
    assert not opened.dialogs
    assert all(address.startswith(("file:", "data:", "about:")) for address in opened.requests)
