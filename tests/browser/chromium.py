"""A headless Chromium from Debian's packages, which is driven by selenium."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from tests.debian_packages import missing_programs

PROGRAMS = ("chromium", "chromedriver")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing_browser() -> str:
    """Why there is no browser; empty where there is one. It is installed where that can be done."""
    return missing_programs("chromium chromium-driver", *PROGRAMS)


class Browser:
    """One page at a time, as a reader has it before them.

    Args:
        profile: An empty folder for what the browser keeps.
    """

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which(PROGRAMS[0]) or ""
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which(PROGRAMS[1])))
        self.driver.set_page_load_timeout(120)
        self.driver.set_script_timeout(60)

    def open(self, page: Path, *, width: int = 1200, dark: bool = False, scripts: bool = True) -> None:
        """Show a page, and wait until its charts are drawn: a slow machine draws them some time after it is loaded.

        Args:
            page: The file.
            width: Of the window, in pixels; below 600 it is a phone.
            dark: Whether the reader prefers dark pages.
            scripts: Whether scripts run.

        Raises:
            TimeoutException: If a chart is not drawn within a minute.
        """
        phone = width < 600
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        self.command("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.command("Emulation.setEmulatedMedia", features=scheme)
        self.driver.get(page.as_uri())
        if scripts:
            charts = "[...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg'))"
            drawn = f"return document.readyState === 'complete' && {charts}"
            WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(drawn))

    def command(self, name: str, **arguments: Any) -> Any:
        """Give the browser a command of its own protocol.

        Args:
            name: The command.
            arguments: Its arguments.
        """
        return self.driver.execute_cdp_cmd(name, arguments)

    def complaints(self) -> list[str]:
        """What the page's console has said since this was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since this was asked last, those inside of the page (``data:``) left out."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [address for address in sent if not address.startswith("data:")]
