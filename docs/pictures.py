"""Makes the pictures of the README from the results in this folder: `python docs/pictures.py [NAME ...]`.

The results are those of `make repro`, or of `dvc checkout`; nothing is written to the project's own MLflow store.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize

ROOT = Path(__file__).resolve().parents[1]
DOCS, REPORTS = ROOT / "docs", ROOT / "reports"
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "helpers")]

SIZE = ViewportSize(width=1280, height=800)  # of a browser's window
LOADING = 60_000  # milliseconds, at most


def samples() -> None:
    """The grid of generated faces, as it is."""
    shutil.copyfile(REPORTS / "samples.png", DOCS / "samples.png")


def training() -> None:
    """An animation of the fixed latents' faces after each epoch; the last one stays for three seconds."""
    frames = [Image.open(path).convert("RGB") for path in sorted((REPORTS / "progress").glob("*.png"))]
    durations = [250] * (len(frames) - 1) + [3000]
    others, path = frames[1:], DOCS / "training.webp"
    frames[0].save(path, save_all=True, append_images=others, duration=durations, loop=0, quality=50, method=6)


def report() -> None:
    """The first screen of the report."""
    with _page() as page:
        page.goto((REPORTS / "report.html").as_uri())
        _save("report", page)


def mlflow() -> None:
    """The run in MLflow's UI, with its description, from a store that holds this run alone."""
    import servers

    from dcgan.tracking import connection

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        subprocess.run([sys.executable, "-m", "dcgan", "sync"], cwd=ROOT, env=_environment(), check=True)
        client, experiment = connection.connect(ROOT)
        (run,) = client.search_runs([experiment])
        address = f"http://127.0.0.1:{(port := servers.free_port())}"
        command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", connection.address(ROOT)]
        command += ["--port", str(port), "--workers", "1"]
        with servers.running(command, f"{address}/health", ROOT, _environment()), _page() as page:
            page.goto(f"{address}/#/experiments/{experiment}/runs/{run.info.run_id}")
            page.get_by_role("button", name="Close").last.click()  # a panel for a language model
            page.get_by_text("Show more").click()
            page.locator("img[src*='samples.png']").evaluate("image => image.decode()")
            page.mouse.move(SIZE["width"] / 2, SIZE["height"] / 2)
            page.mouse.wheel(0, -10_000)  # to the top, from where the click has scrolled
            page.wait_for_timeout(1000)  # until it is there
            _save("mlflow", page)


def explorer() -> None:
    """The page of `make explore`, which installs what it needs."""
    import servers

    address = f"http://127.0.0.1:{(port := servers.free_port())}"
    command = [sys.executable, "-m", "dcgan", "explore", "--port", str(port)]
    with servers.running(command, f"{address}/health", ROOT, _environment()), _page() as page:
        page.goto(address, wait_until="commit")
        page.get_by_alt_text("16 generated faces").wait_for()
        page.mouse.click(SIZE["width"] - 5, SIZE["height"] - 5)  # hides the menu that is open at first
        page.wait_for_timeout(1000)  # until it is gone
        _save("explorer", page)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


@contextmanager
def _page() -> Iterator[Page]:
    """A page of Chromium, closed after the block."""
    from browser import chromium

    with chromium() as browser:
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(LOADING)
        yield page


def _save(name: str, page: Page) -> None:
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(DOCS / f"{name}.webp", quality=85, method=6)


PICTURES: dict[str, Callable[[], None]] = {
    each.__name__: each for each in (samples, training, report, mlflow, explorer)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(PICTURES)}")
    names = parser.parse_args().names
    if unknown := set(names) - set(PICTURES):
        parser.error(f"{', '.join(sorted(unknown))}: no such picture; give some of {', '.join(PICTURES)}")
    for name in names or PICTURES:
        PICTURES[name]()


if __name__ == "__main__":
    main()
