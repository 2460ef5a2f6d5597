"""A headless Chromium that shows the page, and the record of what it asked for and complained about."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WAIT_S = 30.0


def driver_options():
    """Return the paths of browser and driver; skip where this machine lacks one of them."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with its chromedriver on this machine (Debian: chromium, chromium-driver)")
    return browser, driver


class Browser:
    """One window on one page."""

    def __init__(self, driver, url: str) -> None:
        self.driver = driver
        self.url = url
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def open(self) -> None:
        self.driver.get(f"{self.url}/")

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list:
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        """In one step: parts of the page are made anew every second."""
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, condition, what: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, WAIT_S, poll_frequency=0.05).until(lambda _: condition(), what)

    def type(self, selector: str, text: str) -> None:
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": name}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def screenshot(self, file: Path) -> None:
        """The whole page, however long it is."""
        from base64 import b64decode

        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        file.write_bytes(b64decode(shot["data"]))

    def sent(self) -> list[dict]:
        """Return the requests since the last time."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        found = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        self.requests += [message["params"]["request"]["url"] for message in found]
        return found

    def look_back(self) -> None:
        """Take in what was asked for and what was complained about since the last time."""
        self.sent()
        self.complaints += [
            entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")
        ]


@contextlib.contextmanager
def chromium(url: str, profile: Path) -> Iterator[Browser]:
    """Show ``url`` in a browser of its own, with no way to a network but loopback."""
    browser, driver_path = driver_options()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests run as root in containers
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        f"--user-data-dir={profile}",
        "about:blank",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_path))
    try:
        driver.set_page_load_timeout(60)
        driver.get("about:blank")
        driver.get_log("performance")  # of the browser's own first tab
        yield Browser(driver, url)
    finally:
        driver.quit()
