"""Debian's Chromium without a screen, and what people do in it."""

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
"""Seconds until something has to be there, on a machine that is busy."""


def find_browser() -> tuple[str, str] | None:
    """Chromium and the driver of the same version."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def open_browser(programs: tuple[str, str], profile: Path) -> Iterator[Browser]:
    """A window that nobody has used before."""
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    driver.set_script_timeout(2 * PATIENCE)  # while a page draws all its charts no script gets its turn
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """Finds things on a page by what can be read there, and waits until they are there."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        # A page is drawn again and again while it loads, and what is found may be gone when it is used.
        passing = (NoSuchElementException, StaleElementReferenceException, ElementNotInteractableException,
                   ElementClickInterceptedException)  # fmt: skip
        self._wait = WebDriverWait(driver, PATIENCE, ignored_exceptions=passing)

    def go(self, url: str) -> None:
        self.driver.get(url)

    def click(self, text: str) -> None:
        """Click what is called so."""
        place = (By.XPATH, f"//*[normalize-space(text())='{text}']")
        self._until(lambda: self.driver.find_element(*place).click() or True, f"nothing to click is called {text!r}")

    def see(self, *texts: str) -> None:
        """Wait for texts, which may be parts of longer ones."""
        for text in texts:
            self._until(lambda text=text: text in self.text, f"{text!r} cannot be read")

    def until(self, expression: str, what: str) -> Any:
        """Wait until JavaScript has a value that is not empty, and return it."""
        return self._until(lambda: self.driver.execute_script(f"return {expression}"), f"no {what}")

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def _until(self, happened: Callable[[], T], otherwise: str) -> T:
        try:
            return self._wait.until(lambda _: happened())
        except TimeoutException:
            pytest.fail(f"{otherwise} on {self.driver.current_url}:\n{self.text}")
