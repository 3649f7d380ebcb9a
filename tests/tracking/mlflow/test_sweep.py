import threading
from dataclasses import replace

from mlflow import MlflowClient

from ssd.runs.results import Conditions, Results
from ssd.tracking.mlflow.sweep import BEST, NO_BEST, PARENT, TAG
from ssd.tracking.mlflow.writer import MLflow
from ssd.utils.atomic_files import file_lock


def found(server, writer: MLflow):
    client = MlflowClient(server.uri)
    tag = writer.store.run.sweep.folder.as_uri()
    experiment = client.get_run(writer.store.run_id).info.experiment_id
    (parent,) = client.search_runs([experiment], f"tags.{TAG} = '{tag}'")
    return client, parent


VAL = Conditions("pets", "val", 90, 200, "0f", 0.5, None)


def end(writer: MLflow, status: str, value: float | None = None, how: Conditions = VAL) -> None:
    values = {} if value is None else {"val/map_11pt": value, "val/ap_11pt/cat": value}
    writer.close(Results(status, epoch=1, step=10, values=values, measured={"val": how}))


def test_jobs_are_children_of_the_run_of_their_sweep(job, server):
    jobs = [job(number, f"backbone={name}", "+optimizer.learning_rate=0.1")
            for number, name in enumerate(("small", "mobilenet_025"))]  # fmt: skip
    end(jobs[0], "finished", 0.25)
    client, parent = found(server, jobs[0])
    assert parent.info.status == "RUNNING"
    end(jobs[1], "finished", 0.75)
    client, parent = found(server, jobs[0])
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == 'sweep it\'s a "sweep" %'
    assert parent.data.params == {"backbone": "small,mobilenet_025", "optimizer.learning_rate": "0.1,0.2"}
    assert parent.data.tags["git.commit"] == "abc"
    assert "host" not in parent.data.tags
    children = [client.get_run(one.store.run_id) for one in jobs]
    assert {child.data.tags[PARENT] for child in children} == {parent.info.run_id}
    assert [child.info.run_name for child in children] == ["0 backbone=small learning_rate=0.1",
                                                           "1 backbone=mobilenet_025 learning_rate=0.1"]  # fmt: skip
    assert children[1].data.tags["sweep.overrides"] == "backbone=mobilenet_025 +optimizer.learning_rate=0.1"
    assert parent.data.metrics == {BEST + "map_11pt": 0.75, BEST + "epoch": 1.0, BEST + "step": 10.0}
    assert parent.data.tags["best.run_id"] == children[1].info.run_id
    history = client.get_metric_history(parent.info.run_id, BEST + "map_11pt")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.25), (2, 0.75)]


def test_one_parent_however_many_start_at_once(job, server):
    jobs: list[MLflow] = []
    threads = [threading.Thread(target=lambda number=number: jobs.append(job(number))) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in jobs:
        end(one, "finished", 0.5)
    client, parent = found(server, jobs[0])  # exactly one
    assert parent.info.status == "FINISHED"
    children = client.search_runs([parent.info.experiment_id], f"tags.`{PARENT}` = '{parent.info.run_id}'")
    assert len(children) == 6


def test_jobs_that_were_measured_otherwise_have_no_best(job, server):
    first, second = job(0), job(1)
    end(first, "finished", 0.25)
    client, parent = found(server, first)
    assert parent.data.tags["best.run"] == "0"
    end(second, "finished", 0.75, replace(VAL, iou=0.3))
    client, parent = found(server, first)
    assert "best.run" not in parent.data.tags
    assert parent.data.tags[NO_BEST] == "the jobs' numbers do not compare: metric.iou (0.3, 0.5)"


def test_a_failed_job_does_not_make_the_sweep_fail(job, server):
    first, second = job(0), job(1)
    end(second, "finished", 0.5)
    end(first, "failed")
    _, parent = found(server, first)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best.run"] == "1"


def test_a_sweep_of_failed_jobs_has_failed_and_one_that_goes_on_is_running(job, server):
    first = job(0)
    end(first, "failed")
    assert found(server, first)[1].info.status == "FAILED"
    second = job(1)
    second.outbox.close(60)
    assert found(server, first)[1].info.status == "RUNNING"
    second.store.send("status", [("finished", {"map_11pt": 0.5}, 1, {})])
    assert found(server, first)[1].info.status == "FINISHED"


def test_one_at_a_time(tmp_path):
    inside, most = 0, 0

    def enter():
        nonlocal inside, most
        with file_lock(tmp_path / "new" / "lock"):
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.02)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
