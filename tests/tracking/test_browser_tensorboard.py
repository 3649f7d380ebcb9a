"""TensorBoard over a real small sweep, in a real browser (whose shadow roots Playwright looks into)."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install tensorboard")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium, chromium-browser or google-chrome"),
]

OVERRIDES = [
    "-m",
    "optimizer.learning_rate=0.003,0.001",
    "dataset.train=32",
    "dataset.val=12",
    "batch_size=8",
    "epochs=3",
    "training.log_every=1",
    "training.samples=2",
    "logger=tensorboard",
    "logger.tensorboard.monitor.interval=4",
    r"logger.tensorboard.monitor.pattern='stage1_1_conv2d'",
]
SECONDS = 300_000  # a page may take that long on a busy machine, in milliseconds


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, run_in: Callable[..., Any]) -> Path:
    """Outputs of a sweep of two trainings."""
    folder = tmp_path_factory.mktemp("work")
    done = run_in(folder, *OVERRIDES)
    assert done.returncode == 0, done.stderr
    return folder / "outputs"


@pytest.fixture(scope="module")
def address(outputs: Path, start_server: Callable[..., str]) -> str:
    """Of a TensorBoard that serves them."""
    return start_server("tensorboard.main", "--logdir", str(outputs), answers="/data/environment")


@pytest.fixture(scope="module")
def browser() -> "Iterator[sync_api.Browser]":
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "sync_api.Browser", address: str, request: pytest.FixtureRequest) -> "Iterator[sync_api.Page]":
    """A tab of TensorBoard: the override after "test_" says which."""
    page = browser.new_page(viewport={"width": 1600, "height": 1200})
    page.set_default_timeout(SECONDS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/#{request.node.name.removeprefix('test_')}")
    yield page
    if shots := os.environ.get("SSD_SCREENSHOTS"):  # a folder, to look at them
        page.screenshot(path=Path(shots) / f"{request.node.name}.png")
    page.close()
    assert errors == []


def expect(locator: "sync_api.Locator") -> "sync_api.LocatorAssertions":
    sync_api.expect.set_options(timeout=SECONDS)
    return sync_api.expect(locator)


def test_scalars(page: "sync_api.Page") -> None:
    page.locator("tf-tag-filterer input").fill("^(train/loss|train/data_wait|train/images_per_second|val/map_11pt)$")
    found = page.locator("tf-category-paginated-view").first  # what the filter finds; all the rest stays below
    expect(found.locator("tf-scalar-card")).to_have_count(4)
    for tag in ("train/loss", "train/data_wait", "train/images_per_second", "val/map_11pt"):
        card = found.locator("tf-scalar-card").filter(has_text=f"tag: {tag}")
        expect(card.locator("vz-line-chart2 path").first).to_be_attached()
    expect(page.locator("tf-runs-selector")).to_contain_text("1_small_128_shapes")


def test_pr_curves(page: "sync_api.Page") -> None:
    cards = page.locator("tf-pr-curve-card")
    expect(cards).to_have_count(3)
    expect(cards.filter(has_text="val/pr/circle")).to_contain_text("is at step 12")
    expect(cards.first.locator("vz-line-chart2 path").first).to_be_attached()


def test_images(page: "sync_api.Page") -> None:
    images = page.locator("tf-image-loader img")
    expect(images).to_have_count(4)  # two runs, two images
    for index in range(4):
        expect(images.nth(index)).to_have_js_property("complete", True)
        assert images.nth(index).evaluate("image => image.naturalWidth") > 256  # two images of 128 beside each other


def test_histograms(page: "sync_api.Page") -> None:
    page.locator("tf-tag-filterer input").fill("weights/stage1_1_conv2d_weight")
    cards = page.locator("tf-category-paginated-view").first.locator("tf-histogram-loader")
    expect(cards).to_have_count(2)  # of the two runs
    outlines = cards.first.locator("vz-histogram-timeseries path")
    expect(outlines.first).to_be_attached()
    assert outlines.count() >= 3  # steps 4, 8, 12


def test_graphs(page: "sync_api.Page") -> None:
    scene = page.locator("tf-graph-scene")
    for name in ("data", "stage1_1", "stage4_2", "multi_feat_2", "head", "loss"):
        expect(scene.locator("text", has_text=name).first).to_be_attached()


def test_hparams(page: "sync_api.Page") -> None:
    table = page.locator("tf-hparams-table-view")
    for name in ("optimizer.learning_rate", "final/map_11pt", "0.0030000", "0.0010000"):
        expect(table).to_contain_text(name)
    # The only one that differs comes first.
    expect(page.locator("tf-hparams-query-pane")).to_contain_text("optimizer.learning_rate")


def test_text(page: "sync_api.Page") -> None:
    configs = page.locator("tf-text-loader").filter(has_text="config/text_summary")
    expect(configs).to_have_count(2)
    expect(configs.first.locator("pre code")).to_contain_text("learning_rate: 0.00")
