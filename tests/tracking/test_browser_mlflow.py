"""MLflow's own pages over the outputs of a real sweep, in a real browser: runs nest, compare and show things."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300  # for a page that is slow because the machine is busy
RATES = ("0.001", "0.002")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a sweep over two learning rates ran, both at once."""
    folder = tmp_path_factory.mktemp("sweep")
    overrides = [
        "-m",
        "backbone=small",
        "data_shape=64",
        f"optimizer.learning_rate={','.join(RATES)}",
        "dataset.train=16",
        "dataset.val=4",
        "epochs=2",
        "batch_size=8",
        "training.log_every=1",
        "training.samples=1",
        "logger=mlflow",
        "logger.mlflow.register=shapes",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ssd.run", *overrides]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def site(sweep: Path, start_server: Callable[..., str]) -> str:
    store = f"sqlite:///{sweep}/outputs/mlflow/mlflow.db"
    return start_server("mlflow", "server", "--backend-store-uri", store, "--workers", "1")


@pytest.fixture
def page(chromium: Any, site: str, tmp_path: Path) -> Iterator[Any]:
    """A page whose last look is kept as an image, for whoever wants to see it."""
    page = chromium.new_page(viewport={"width": 1600, "height": 1000}, base_url=site)
    page.set_default_timeout(SECONDS * 1000)
    yield page
    page.screenshot(path=str(tmp_path / "page.png"))
    page.close()


@pytest.fixture(scope="module")
def runs(site: str) -> tuple[Any, list[Any]]:
    """The sweep's run and its jobs', the first job first."""
    client = MlflowClient(site)
    experiment = client.get_experiment_by_name("ssd")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    found = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in found if run.data.tags["job"] == "sweep"]
    return parent, sorted((run for run in found if run is not parent), key=lambda run: run.info.run_name)


def visible(page: Any, text: str) -> Any:
    place = page.get_by_text(text).first
    place.wait_for()
    return place


def names_and_left_edges(page: Any) -> dict[str, float]:
    links = page.locator("[col-id='attributes.`Run Name`'] a").all()
    return {link.inner_text(): link.bounding_box()["x"] for link in links}


def test_jobs_are_nested_under_their_sweep(page: Any, runs: tuple[Any, list[Any]]) -> None:
    parent, jobs = runs
    page.goto(f"/#/experiments/{parent.info.experiment_id}/runs?workflowType=machine_learning")
    visible(page, parent.info.run_name)
    assert list(names_and_left_edges(page)) == [parent.info.run_name]
    page.locator("[col-id='attributes.`Run Name`'] button").first.click()
    visible(page, "1 learning_rate=0.002")
    edges = names_and_left_edges(page)
    assert sorted(edges) == ["0 learning_rate=0.001", "1 learning_rate=0.002", parent.info.run_name]
    assert all(edges[job.info.run_name] > edges[parent.info.run_name] for job in jobs)


def test_the_sweep_names_its_jobs_what_it_swept_and_the_best(page: Any, runs: tuple[Any, list[Any]]) -> None:
    parent, jobs = runs
    page.goto(f"/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}")
    visible(page, "Child runs")
    for job in jobs:
        visible(page, job.info.run_name)
    visible(page, "0.001,0.002")
    assert parent.info.status == "FINISHED"
    best = max(job.data.metrics["final/map_11pt"] for job in jobs)
    assert parent.data.metrics["best/map_11pt"] == best


def test_runs_compare(page: Any, runs: tuple[Any, list[Any]]) -> None:
    parent, jobs = runs
    ids = quote(json.dumps([job.info.run_id for job in jobs]))
    page.goto(f"/#/compare-runs?runs={ids}&experiments={quote(json.dumps([parent.info.experiment_id]))}")
    visible(page, "Comparing 2 Runs from 1 Experiment")
    visible(page, "Parallel Coordinates Plot")
    for job in jobs:
        visible(page, job.info.run_name)
    details = page.locator("body").inner_text()
    assert "optimizer.learning_rate" in details
    for rate in RATES:
        assert rate in details


def test_curves_and_images_of_a_job(page: Any, runs: tuple[Any, list[Any]]) -> None:
    _, jobs = runs
    base = f"/#/experiments/{jobs[0].info.experiment_id}/runs/{jobs[0].info.run_id}"
    page.goto(f"{base}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("train/loss")
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(state="attached")
    page.goto(f"{base}/artifacts/images/val_sample_1.png")
    visible(page, "val_sample_1.png")
    image = page.locator("img[src^='blob:'], img[src*='val_sample_1'], img[src*='get-artifact']").first
    image.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth > 100", arg=image.element_handle())
    assert page.get_by_text("checkpoints").count()
    assert page.get_by_text("report").count()


def test_the_registered_model_and_where_it_comes_from(page: Any, runs: tuple[Any, list[Any]]) -> None:
    _, jobs = runs
    page.goto("/#/models/shapes")
    visible(page, "Version 2")
    visible(page, "@ best")
    page.goto("/#/models/shapes/versions/2")
    visible(page, "Source Run")
    place = visible(page, "learning_rate=")
    assert place.inner_text() in [job.info.run_name for job in jobs]
    visible(page, "dataset.hash.val")
