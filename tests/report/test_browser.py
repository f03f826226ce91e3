"""The report in a real browser, opened from the disk without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import chromium
from playwright.sync_api import Browser, Page, expect

from dcgan.metrics.names import FRECHET_DISTANCE
from dcgan.report.page import render
from reports import inputs, metrics

EPOCHS = 6
WIDTHS = (400, 900, 1600)
Opener = Callable[..., Page]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section, distances while training among them."""
    losses = inputs().losses
    losses = losses.assign(quick_frechet_distance=np.where(losses.index % 40 == 39, 500.0 - losses.index, np.nan))
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(inputs(epochs=EPOCHS, losses=losses)))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Opens a page, and fails the test afterwards if the page said anything on its console or asked for a file."""
    said: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1600, height: int = 900, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_any_screen_and_axe_finds_nothing(opened: Opener, report: Path, width: int, scheme: str) -> None:
    page = opened(report, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(number) for number in background[4:-1].split(",")) < 200) == (scheme == "dark")
    violations = Axe().run(page).response["violations"]
    assert not violations, [(found["id"], [node["target"] for node in found["nodes"]]) for found in violations]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_is_drawn(opened: Opener, report: Path, width: int) -> None:
    page = opened(report, width)
    pictures = "Promise.all([...document.querySelectorAll('main img')].map(i => i.decode().then(() => i.naturalWidth)))"
    widths = page.evaluate(pictures)
    assert len(widths) == 6 + 2 + EPOCHS + 1 and all(widths)
    for picture in page.locator("main button.open img").all()[:4]:
        assert picture.bounding_box() and picture.bounding_box()["width"] > 0.5 * min(width, 528)  # type: ignore[index]


@pytest.mark.parametrize(("width", "height"), [(400, 850), (900, 1000), (1600, 900)])
def test_the_first_screen_has_the_picture_the_distance_with_floor_and_the_judgement(
    opened: Opener, report: Path, width: int, height: int
) -> None:
    page = opened(report, width, height)
    for place in (page.locator(".judgement"), page.locator(".big"), page.locator(".under"), page.locator("img").first):
        box = place.bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] <= height, place
    table, bar = (page.locator(place).last.bounding_box() for place in (".bars", ".bars .bar span"))
    assert table and bar and bar["width"] > 60 and table["x"] + table["width"] <= width - 20  # the page's margin
    assert page.locator(".under").inner_text() == "floor 45.6, untrained 1,000, spread ± 1.5"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", ["collapsed", "worse"])
def test_a_failed_run_says_so_in_the_first_screen(opened: Opener, tmp_path: Path, case: str, width: int) -> None:
    name, path = FRECHET_DISTANCE, tmp_path / "report.html"
    worse = metrics() | ({name: 1200.0, f"{name}_at_floor_count": 1250.0} if case == "worse" else {})
    path.write_text(render(inputs(variety=0.05 if case == "collapsed" else 1.0, metrics=worse)))
    judgement = opened(path, width).locator(".judgement")
    expect(judgement).to_be_in_viewport(ratio=1)
    expect(judgement).to_contain_text("Collapsed" if case == "collapsed" else "Worse than untrained")


def shown_epoch(page: Page) -> str:
    """The epoch whose grid is shown, beside what the slider says of it."""
    (frame,) = (each for each in page.locator(".frames li").all() if each.is_visible())
    words = page.locator("#shown-epoch").inner_text()
    epoch = frame.get_attribute("data-epoch") or ""
    assert words == (f"epoch {epoch} of {EPOCHS}" if epoch != "0" else "before training")
    return epoch


def test_the_slider_shows_the_epochs_by_mouse_and_keyboard(opened: Opener, report: Path) -> None:
    page = opened(report, 900)
    slider = page.get_by_role("slider", name="Epoch")
    assert shown_epoch(page) == str(EPOCHS)
    slider.press("ArrowLeft")
    assert shown_epoch(page) == str(EPOCHS - 1)
    slider.press("Home")
    assert shown_epoch(page) == "0" and slider.get_attribute("aria-valuetext") == "before training"
    box = slider.bounding_box()
    assert box
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert shown_epoch(page) == str(EPOCHS // 2)
    lines = page.locator(".chart .epoch")
    assert [line.get_attribute("x1") for line in lines.all()] == ["263"] * 3  # in the middle, in every chart


def test_the_training_plays_once_and_not_for_who_wants_no_motion(opened: Opener, report: Path) -> None:
    page = opened(report)
    page.get_by_role("button", name="Play").click()
    assert page.locator("#shown-epoch").inner_text() == "before training"
    expect(page.locator("#shown-epoch")).to_have_text(f"epoch {EPOCHS} of {EPOCHS}")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    still = opened(report, reduced_motion="reduce")
    expect(still.locator("#play")).to_be_hidden()
    expect(still.get_by_role("slider", name="Epoch")).to_be_visible()


def test_a_picture_opens_at_two_and_three_times_its_pixels_and_closes(opened: Opener, report: Path) -> None:
    page = opened(report)
    picture, large = page.locator("main button.open").first, page.locator("dialog img")
    picture.click()
    natural = picture.locator("img").evaluate("image => image.naturalWidth")
    for scale in (2, 3):
        page.get_by_role("button", name=f"{scale}x").click()
        expect(page.get_by_role("button", name=f"{scale}x")).to_have_attribute("aria-pressed", "true")
        box = large.bounding_box()
        assert box and box["width"] == scale * natural
    assert page.locator("dialog p").inner_text() == picture.locator("img").get_attribute("alt")
    assert not Axe().run(page).response["violations"]
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("dialog")).to_be_hidden()
    picture.focus()
    page.keyboard.press("Enter")
    expect(large).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(picture).to_be_focused()


def test_curves_tell_their_values_by_mouse_and_keyboard(opened: Opener, report: Path) -> None:
    page = opened(report)
    losses = inputs().losses
    drawing = page.get_by_role("slider", name="Losses")
    readout, loss = page.locator(".chart output").first, page.locator("[data-column=d_loss] b")
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 263 / 480, box["y"] + 50)
    expect(readout).to_have_text("step 500")
    assert float(loss.inner_text()) == pytest.approx(losses["d_loss"][losses["step"] == 500].item(), rel=1e-3)
    drawing.press("ArrowRight")
    expect(readout).to_have_text("step 505")
    assert "discriminator" in (drawing.get_attribute("aria-valuetext") or "")
    distance = page.get_by_role("slider", name="Quick Frechet distance while training")
    distance.press("Home")
    expect(page.locator("[data-column=quick_frechet_distance] b")).to_have_text("461")


def test_the_scale_of_all_curves_can_be_logarithmic(opened: Opener, report: Path) -> None:
    page = opened(report)
    linear, log = page.locator(".chart .scale-linear").first, page.locator(".chart .scale-log").first
    expect(linear).to_be_visible()
    expect(log).to_be_hidden()
    page.get_by_label("Logarithmic scale").check()
    expect(linear).to_be_hidden()
    expect(log).to_be_visible()


def test_it_prints_with_some_of_the_epochs_and_no_controls(opened: Opener, report: Path) -> None:
    page = opened(report, 794, color_scheme="dark")  # the width of A4
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") == 794
    expect(page.locator(".slider")).to_be_hidden()
    assert len([frame for frame in page.locator(".frames li").all() if frame.is_visible()]) == 6
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and 2 <= pdf.count(b"/Type /Page\n") <= 12


def test_it_is_whole_without_script(opened: Opener, report: Path) -> None:
    page = opened(report, java_script_enabled=False)
    assert all(frame.is_visible() for frame in page.locator(".frames li").all())
    expect(page.locator(".slider")).to_be_hidden()
    expect(page.locator(".chart path.line").first).to_be_visible()
