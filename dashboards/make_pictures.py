"""Takes the pictures of MLflow's pages that dashboards/README.md shows, in a real browser.

    python dashboards/make_pictures.py resnet_depth --register digits@champion

It serves the results with ``expflow ui``, opens its pages in Chromium (Debian: ``apt install chromium``), waits until
they have drawn what they show, and writes PNGs of at most 150 KB into dashboards/pictures. MLFLOW_TRACKING_URI may name
a server: then its pages are taken.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

FOLDER = Path(__file__).parent / "pictures"
WIDTH, HEIGHT = 1440, 900
SCALE = 0.75
LARGEST = 150_000
LONGEST_WAIT = 120.0
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    f"--window-size={WIDTH},{HEIGHT}",
)


@dataclass(frozen=True)
class Page:
    """A page to be taken.

    Attributes:
        name: Of the picture.
        address: Of the page.
        ready: JavaScript that gives true once the page shows what it is taken for.
    """

    name: str
    address: str
    ready: str


def shows(*texts: str) -> str:
    """JavaScript: whether the page shows all of these texts.

    Args:
        texts: The texts.
    """
    return " && ".join(f"document.body.innerText.includes({json.dumps(text)})" for text in texts)


class Browser:
    """A browser that is driven by its own protocol.

    Args:
        socket: The connection to one of its pages.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its events are passed over.

        Args:
            method: The method.
            parameters: Its parameters.
        """
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=LONGEST_WAIT)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    async def value(self, script: str) -> Any:
        """What a script gives in the page.

        Args:
            script: JavaScript.
        """
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    async def take(self, page: Page) -> bytes:
        """Open a page, wait until it is ready and still, and return it as a PNG.

        Args:
            page: The page.
        """
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=page.address)
        end = time.monotonic() + LONGEST_WAIT
        while not await self.value(f"Boolean({page.ready})"):
            if time.monotonic() > end:
                raise RuntimeError(f"{page.address} never showed {page.ready}: {await self.value(SHOWN)}")
            await self.value(CLOSE_OVERLAYS)
            await asyncio.sleep(0.5)
        await self.value(CLOSE_OVERLAYS)
        before = b""
        while time.monotonic() < end:  # charts move into their places
            picture = base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
            if picture == before:
                break
            before = picture
            await asyncio.sleep(1.0)
        return picture


SHOWN = "document.body.innerText.slice(0, 2000)"
CLOSE_OVERLAYS = """
for (const label of ["Close Assistant", "Close assistant", "Close"]) {
  for (const button of document.querySelectorAll(`button[aria-label="${label}"]`)) button.click();
}
"""
"""MLflow's assistant takes a third of the window when it is opened for the first time."""


def small_png(picture: bytes) -> bytes:
    """A picture made smaller, with so many colours that it has at most :data:`LARGEST` bytes.

    Args:
        picture: A PNG.
    """
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image = image.resize((round(image.width * SCALE), round(image.height * SCALE)), Image.Resampling.LANCZOS)
    for colours in (256, 128, 64, 32, 16):
        file = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()


async def take_all(pages: list[Page], port: int) -> dict[str, bytes]:
    """All pictures by name.

    Args:
        pages: The pages.
        port: Of the browser's protocol.
    """
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            targets = await answer.json()
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        async with session.ws_connect(address, max_msg_size=0) as connection:
            browser = Browser(connection)
            await browser.call("Page.enable")
            return {page.name: await browser.take(page) for page in pages}


def browser_program() -> str | None:
    """Chromium's path; None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def running_browser() -> Iterator[int]:
    """Chromium without a window; yields the port of its protocol."""
    program = browser_program()
    if program is None:
        sys.exit("Chromium is missing (Debian: apt install chromium)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield _port_of(Path(profile) / "DevToolsActivePort", process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _port_of(file: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(file.read_text().splitlines()[0])
        time.sleep(0.2)
    sys.exit("Chromium does not start")


@contextlib.contextmanager
def served(name: str, storage: str | None) -> Iterator[str]:
    """``expflow ui`` on results; yields the link that compares their configs.

    Args:
        name: Name of the results.
        storage: The folder of all results.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["ui", name, "--port", str(port), *(["--storage", storage] if storage else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "expflow", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "500"},
    )
    try:
        for line in process.stdout or ():
            if match := re.match(r"compare\s+(\S+)", line):
                yield match[1]
                return
        sys.exit(f"expflow ui {name} printed no link")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def sweep_run(compare: str) -> str:
    """Id of the newest sweep's run in the experiment that a link compares.

    Args:
        compare: The link.
    """
    from mlflow import MlflowClient

    server, experiment = re.match(r"(.*)/#/experiments/(\d+)/", compare).groups()  # type: ignore[union-attr]
    runs = MlflowClient(tracking_uri=server).search_runs([experiment], "tags.`expflow.role` = 'sweep'", max_results=1)
    return str(runs[0].info.run_id)


def pages_of(compare: str, model: str | None) -> list[Page]:
    """The pages that are taken.

    Args:
        compare: The link that compares the configs.
        model: A registered model, whose newest version is shown.
    """
    server, experiment = re.match(r"(.*)/#/experiments/(\d+)/", compare).groups()  # type: ignore[union-attr]
    drawn = "document.querySelectorAll('.js-plotly-plot .main-svg').length > 0"
    pages = [
        Page("compare", compare, f"{shows('What was asked', 'Learning curves')} && {drawn}"),
        Page("sweep", f"{server}/#/experiments/{experiment}/runs/{sweep_run(compare)}", shows("Expected:")),
    ]
    if model:
        pages.append(Page("model", f"{server}/#/models/{model}/versions/1", shows("Rank 1 of")))
    return pages


def main() -> None:
    """Takes the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the results")
    parser.add_argument("--storage", help="the folder of all results")
    parser.add_argument("--register", metavar="NAME[@ALIAS]", help="register the selected model, and show its page")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures")
    options = parser.parse_args()
    if options.register:
        words = ["show", f"{options.name}/best", "--register", options.register]
        words += ["--storage", options.storage] if options.storage else []
        subprocess.run([sys.executable, "-m", "expflow", *words], check=True)
    model = (options.register or "").partition("@")[0]
    with served(options.name, options.storage) as compare, running_browser() as port:
        pictures = asyncio.run(take_all(pages_of(compare, model), port))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        path = options.out / f"{name}.png"
        path.write_bytes(small_png(picture))
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
