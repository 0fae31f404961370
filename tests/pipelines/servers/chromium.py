"""Debian's headless Chromium, and the actions of a user in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1600,4000",
)  # fmt: skip
PATIENCE = 120.0
"""Seconds to wait for an element, on a busy machine."""


def find_browser() -> tuple[str, str] | None:
    """Find the programs of Chromium and its driver; None if one is missing."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def open_browser(programs: tuple[str, str], profile: Path) -> Iterator[Browser]:
    """Open a window with a new profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    driver.set_script_timeout(2 * PATIENCE)  # no script runs while a page draws all its charts
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """Browser that finds elements of a page by their text, and waits for them."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        # A page is drawn repeatedly while it loads, and a found element may be gone when it is used.
        passing = (NoSuchElementException, StaleElementReferenceException, ElementNotInteractableException,
                   ElementClickInterceptedException)  # fmt: skip
        self._wait = WebDriverWait(driver, PATIENCE, ignored_exceptions=passing)

    def go(self, url: str) -> None:
        self.driver.get(url)

    def click(self, text: str) -> None:
        """Click the element with a text."""
        place = (By.XPATH, f"//*[normalize-space(text())='{text}']")
        self._until(
            lambda: self.driver.find_element(*place).click() or True, f"no element to click has the text {text!r}"
        )

    def see(self, *texts: str) -> None:
        """Wait until the page contains some texts."""
        for text in texts:
            self._until(lambda text=text: text in self.text, f"{text!r} is missing")

    def until(self, expression: str, what: str) -> Any:
        """Wait until a JavaScript expression has a non-empty value, and return it."""
        return self._until(lambda: self.driver.execute_script(f"return {expression}"), f"no {what}")

    @property
    def text(self) -> str:
        """Text of the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def _until(self, happened: Callable[[], T], otherwise: str) -> T:
        try:
            return self._wait.until(lambda _: happened())
        except TimeoutException:
            pytest.fail(f"{otherwise} on {self.driver.current_url}:\n{self.text}")
