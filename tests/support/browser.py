"""Headless Chromium that opens a page from its file; a test skips, with the reason, where it is not installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

START = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")
OWN_TRAFFIC = ("--disable-background-networking", "--disable-component-update", "--no-first-run")


def open_browser(downloads: Path, *more: str):
    """Return a driver of Chromium that logs what a page asks for; skip where Selenium, Chromium or its driver lack."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed (the extra `test`)")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*START, *OWN_TRAFFIC, *more):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def requested(driver) -> list[str]:
    """Addresses that pages have asked for since the last call; those of data in the page itself are left out."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    return [address for address in asked if not address.startswith(("data:", "blob:"))]


def complaints(driver) -> list[str]:
    """Errors and warnings that the browser has logged since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def set_width(driver, width: int, height: int = 900, dark: bool = False) -> None:
    """Show pages as on a screen so wide, in light or dark colours."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
