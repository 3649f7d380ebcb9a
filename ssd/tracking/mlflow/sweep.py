"""The run that stands for a sweep: parent of its jobs' runs, whichever processes and machines they run on."""

import time
from typing import Any

from ssd.runs.results import HEADLINE, unlike
from ssd.tracking.events import RunInfo
from ssd.tracking.mlflow.names import (
    KEY_LENGTH,
    PARAM_LENGTH,
    TAG_LENGTH,
    clean,
    measured_in,
    short_overrides,
    shortened,
    source_tags,
)
from ssd.utils.atomic_files import file_lock

TAG = "sweep"  # holds the sweep directory, as an address: no character in it needs quoting
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
FINAL, BEST = "final/", "best/"
BEST_RUN = ("best.run", "best.run_id")  # tags: name and id of the best job's run
NO_BEST = "best.none"  # a tag: why there is no best job


class SweepRun:
    """The parent in one store. Jobs that come and go at the same time see each other's changes whole."""

    def __init__(self, client: Any, experiment: str, run: RunInfo) -> None:
        assert run.sweep
        self._client = client
        self._experiment = experiment
        self._run = run
        self._sweep = run.sweep
        self._lock = run.sweep.folder / ".mlflow.lock"
        self.run_id = ""

    def join(self) -> str:
        """Finds the parent, or makes it for the first job; it is running again. Returns its run id."""
        with file_lock(self._lock):
            tag = self._sweep.folder.as_uri()
            found = self._client.search_runs([self._experiment], f"tags.{TAG} = '{tag}'", max_results=1)
            if found:
                self.run_id = found[0].info.run_id
                self._client.update_run(self.run_id, status="RUNNING")
            else:
                self.run_id = self._make(tag)
        return self.run_id

    def _make(self, tag: str) -> str:
        from mlflow.entities import Param

        overrides = [override.lstrip("+").partition("=") for override in self._sweep.swept]
        over = ", ".join(f"`{name}`: {value}" for name, _, value in overrides)
        facts = {name: text for name, text in self._run.facts.items() if name.startswith("git.") or name == "command"}
        note = f"Sweep over {over or 'what its jobs differ in'}; files in `{self._sweep.folder}`"
        tags = {TAG: tag, "job": "sweep", "folder": str(self._sweep.folder), NOTE: note, **facts}
        tags |= source_tags(self._run.facts)
        tags = {name: shortened(text, TAG_LENGTH) for name, text in tags.items()}
        name = f"sweep {self._sweep.folder.name}"
        run_id = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
        params = {clean(name): Param(clean(name), shortened(value, PARAM_LENGTH)) for name, _, value in overrides}
        if params:
            self._client.log_batch(run_id, params=list(params.values()), synchronous=True)
        return run_id

    def tags(self) -> dict[str, str]:
        """Of a job's run that joins."""
        return {PARENT: self.run_id, "sweep.overrides": shortened(" ".join(self._sweep.own), TAG_LENGTH)}

    def name(self) -> str:
        """Of a job's run: what tells it from the others."""
        return f"{self._sweep.number} {short_overrides(self._sweep.own)}".strip()[:KEY_LENGTH]

    def leave(self) -> None:
        """After a job's end: the parent has the best numbers so far, where all were measured alike, and ends with the
        last job that runs."""
        with file_lock(self._lock):
            children = self._children()
            finished = [child for child in children if child.info.status == "FINISHED"]
            measured = [child for child in finished if FINAL + HEADLINE in child.data.metrics]
            if different := unlike(measured_in(child.data.tags) for child in measured):
                self._log_no_best(f"the jobs' numbers do not compare: {different}")
            elif measured:
                best = max(measured, key=lambda child: child.data.metrics[FINAL + HEADLINE])
                self._log_best(best, step=len(measured))
            if not any(child.info.status == "RUNNING" for child in children):
                self._client.set_terminated(self.run_id, "FINISHED" if finished else "FAILED")

    def _children(self) -> list[Any]:
        children, token = [], None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{PARENT}` = '{self.run_id}'", max_results=1000, page_token=token
            )
            children += page
            token = page.token
            if not token:
                return children

    def _log_no_best(self, why: str) -> None:
        for tag in BEST_RUN:
            if tag in self._client.get_run(self.run_id).data.tags:
                self._client.delete_tag(self.run_id, tag)
        self._client.set_tag(self.run_id, NO_BEST, why)

    def _log_best(self, best: Any, step: int) -> None:
        from mlflow.entities import Metric, RunTag

        # Means only: a hundred classes are the best job's own matter.
        final = {name.removeprefix(FINAL): value for name, value in best.data.metrics.items() if name.startswith(FINAL)}
        moment = int(time.time() * 1000)
        metrics = [Metric(BEST + name, value, moment, step) for name, value in final.items() if "/" not in name]
        tags = [RunTag(tag, text) for tag, text in zip(BEST_RUN, (best.info.run_name, best.info.run_id), strict=True)]
        self._client.log_batch(self.run_id, metrics=metrics, tags=tags, synchronous=True)
