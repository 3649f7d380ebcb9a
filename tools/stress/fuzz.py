"""Gives damaged and hostile files to all that reads files: each must be read, or refused in one line, soon and in
little memory.

    python tools/stress/fuzz.py                          # 200 of every kind; a table goes to stdout
    python tools/stress/fuzz.py --count 2000 --seed 7 params symbol
    python tools/stress/fuzz.py --keep bad symbol        # what went wrong is left in the folder `bad`

Sound files are made first, a folder for each kind. Then, case by case, one of them is damaged (bytes, texts or values
of it; or replaced by something made to be hard) and read again, in a process of limited memory and time, so that a
crash is counted and the next case goes on. A case depends on the kind, the seed and its number alone.
"""

import argparse
import contextlib
import copy
import faulthandler
import io
import json
import logging
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from omegaconf import OmegaConf

from ssd.checkpoint.index import NAME
from ssd.checkpoint.model import SPEC_ATTRIBUTE, Model, ModelSpec, attach_spec, load_model, load_params
from ssd.checkpoint.store import Checkpoints, RetentionPolicy
from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.config.paths import CONF
from ssd.data.datasets import download, voc_xml, yolo_text
from ssd.data.datasets.coco import COCO
from ssd.data.datasets.csv_table import CSV
from ssd.data.datasets.rec import Rec
from ssd.data.datasets.voc import VOC
from ssd.data.datasets.yolo import YOLO
from ssd.data.images import decode
from ssd.data.recordio.cache import RECORDS, Records
from ssd.data.recordio.reader import RecordFile
from ssd.detection import sources
from ssd.detection.backends import open_backend
from ssd.detection.open_model import open_model
from ssd.detection.video import video_file
from ssd.evaluation.compare_page import compare_page
from ssd.evaluation.comparison import find_runs
from ssd.export.bundle import write_bundle
from ssd.export.formats import FORMATS, Calibration, open_graph
from ssd.importers.caffe import text as prototxt
from ssd.importers.caffe.wire import read_weights
from ssd.importers.npz import load_npz
from ssd.importers.safetensors import read_safetensors
from ssd.jobs import clean
from ssd.jobs.compare import lines_of, table_of
from ssd.jobs.train import guard_config
from ssd.mxnet_compat import mx
from ssd.runs.inherit import inherit
from ssd.runs.rerun import as_saved, saved_overrides
from ssd.runs.results import Conditions, Results
from ssd.runs.resume import check_same, resume_overrides
from ssd.sweeps import leaderboard, study
from ssd.sweeps.outcome import FINISHED, Outcome
from ssd.symbol import build_train
from ssd.symbol.backbones import mobilenet
from ssd.tracking import unsent
from ssd.tracking.event_file import EventFile, drop_from
from ssd.tracking.events import RunInfo
from ssd.tracking.files import Table
from ssd.tracking.mlflow.outbox import Entry
from ssd.tracking.mlflow.store import Settings
from ssd.training.guards import Guards
from ssd.training.train_state import SaveInterval, TrainState
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

SIDE = 64
CLASSES = ["circle", "rectangle", "traffic light"]
SECONDS = 20.0  # of processor time for one case
WAITING = 10 * SECONDS  # for one case that uses no processor, on a machine that does other things as well
MEMORY = 4 << 30  # bytes beyond what the process has when it begins
LABELS = (2, 3, 6)  # of a batch of two images
BATCH = 100  # cases of one process
HOLD_OUT = {"val": 0.25, "test": 0.0, "seed": 0}
NUMBERS = [
    "0", "-1", "1", "2", "255", "65536", "2147483647", "2147483648", "4294967295", "9223372036854775807",
    "99999999999999999999", "1e38", "1e400", "-1e400", "nan", "NaN", "inf", "-Infinity", "1e-45", "0x10", "1_0",
    "1:1:1", "9" * 5000,
]  # fmt: skip
SETTINGS = [
    "0", "-1", "1", "2", "3", "5", "7", "-2", "100", "65535", "1000000", "1000000000", "-1000000000", "0.5", "-0.5",
    "nan", "inf", "1e30", "1e-30", "True", "False", "None", "int32", "uint8", "float16", "float64", "valid", "full",
    "same", "avg", "sum", "center", "corner", "both", "mask",
]  # fmt: skip
TEXTS = [
    *NUMBERS, "", "true", "null", "None", "~", "???", "${oc.env:HOME}", "*a", "&a", "!!python/name:os.system", "{", "}",
    "[", "]", ":", ",", "'", '"', "\\", "\n", "\t", "\0", "\x85", "\u2028", "é", "\ud83d", "../../../etc/passwd",
    "/dev/zero", "/", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "&lt;", "-", "%", "#", "|", ">", "@", "`",
]  # fmt: skip
VALUES = [
    None, True, False, 0, -1, 1, 2, 0.5, 2**31, 2**63, 10**30, -1e308, float("nan"), float("inf"), "", "a", "0", "nan",
    "\0", "é" * 50, "x" * 100_000, [], {}, [[]], [None], {"": None}, [1] * 1000, "../x", "/dev/zero", "${oc.env:HOME}",
]  # fmt: skip
TOKENS = re.compile(rb"\s+|[\w.+-]+|.", re.DOTALL)
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{here}: &{here} [{','.join(['*' + there] * 9)}]\n" for there, here in zip("abcdefgh", "bcdefghi", strict=True)
)
HARD_TEXTS = [
    b"", b"\0" * 100, b"\xff\xfe", b"[" * 50_000, b"{" * 50_000, b'{"a":' * 50_000, b"- " * 50_000, b'"' * 900_001,
    b'"' + b'\\"' * 400_000, b"1," * 400_000, b"9" * 900_000, b"1:" * 400_000 + b"1", b"a: 1\n" * 150_000,
    BOMB.encode(), BOMB.replace("i:", "names:").encode(), b"<a>" * 50_000, b"a " * 400_000, b"x" * 2_000_000,
]  # fmt: skip

Damage = Callable[[bytes, random.Random], bytes]
Case = Callable[[int], tuple[Path, bytes]]  # of a number the file that is damaged, and what it then holds


@dataclass(frozen=True)
class Kind:
    """make: writes sound files into an empty folder. read: reads the folder. damaged: patterns of the files that are
    damaged, and how."""

    make: Callable[[Path], None]
    read: Callable[[Path], None]
    damaged: dict[str, Sequence[Damage]]


@dataclass
class Tally:
    """Of the cases of a kind. slowest (seconds, case), largest (bytes beyond the sound files' process, case)."""

    results: "Counter[str]" = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[int, int] = (0, -1)
    wrong: list[tuple[int, str]] = field(default_factory=list)


# How files are damaged


def bytes_changed(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        place = rng.randrange(min(len(changed), rng.choice([64, 256, len(data) + 1])) or 1)
        how = rng.randrange(8)
        if how == 0 and changed:
            changed[place] ^= 1 << rng.randrange(8)
        elif how == 1 and changed:
            changed[place] = rng.choice([0, 1, 127, 128, 255])
        elif how == 2:
            del changed[place : place + rng.choice([1, 4, 100])]
        elif how == 3:
            changed[place:place] = rng.randbytes(rng.choice([1, 4, 8]))
        elif how == 4:
            changed[place : place + 4] = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1]).to_bytes(4, "little")
        elif how == 5:
            changed[place : place + 8] = rng.choice([2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1]).to_bytes(8, "little")
        elif how == 6:
            changed[place:place] = changed[place : place + rng.choice([4, 40, 400])]
        elif rng.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def texts_changed(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return rng.choice(HARD_TEXTS)
    texts = TOKENS.findall(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(texts) + 1)
        how = rng.randrange(6)
        if how == 0:
            del texts[place : place + rng.choice([1, 1, 9])]
        elif how == 1 and texts:
            texts.insert(place, rng.choice(texts))
        elif how == 2:
            texts.insert(place, strange(rng) * rng.choice([1, 1, 1, 1000]))
        else:
            numbers = [number for number, text in enumerate(texts) if re.fullmatch(rb"[\d.e+-]+", text)]
            chosen = rng.choice(numbers) if numbers and how > 3 else min(place, len(texts) - 1)
            texts[chosen : chosen + 1] = [rng.choice(NUMBERS).encode() if how > 3 else strange(rng)]
    return b"".join(texts)


def strange(rng: random.Random) -> bytes:
    return rng.choice(TEXTS).encode("utf-8", "surrogatepass")


def values_changed(data: bytes, rng: random.Random) -> bytes:
    """Of JSON."""
    content = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        content = value_changed(content, rng)
    return json.dumps(content).encode()


def value_changed(content: Any, rng: random.Random) -> Any:
    """Takes a way through the content to a random place, the deeper the likelier."""
    if isinstance(content, (dict, list)) and content and rng.random() < 0.9:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = rng.choice(keys)
        how = rng.random()
        if how < 0.05:
            del content[key]
        elif how < 0.1 and isinstance(content, list):
            content.append(json.loads(json.dumps(content[key])))
        elif how < 0.1:
            content[f"{key}x"] = content.pop(key)
        else:
            content[key] = value_changed(content[key], rng)
        return content
    if isinstance(content, str) and rng.random() < 0.5:
        return texts_changed(content.encode(), rng).decode("utf-8", "replace")
    return copy.deepcopy(rng.choice(VALUES))  # which later damage may change


def described_otherwise(data: bytes, rng: random.Random) -> bytes:
    """What a graph says of its model."""
    content = json.loads(data)
    node = next(node for node in content["nodes"] if SPEC_ATTRIBUTE in node.get("attrs", {}))
    node["attrs"][SPEC_ATTRIBUTE] = values_changed(node["attrs"][SPEC_ATTRIBUTE].encode(), rng).decode()
    return json.dumps(content).encode()


def attributes_changed(data: bytes, rng: random.Random) -> bytes:
    """Operators and attributes of a graph, whose text stays of the kind that it is."""
    content = json.loads(data)
    for _ in range(rng.choice([1, 1, 2])):
        node = rng.choice([node for node in content["nodes"] if node["op"] != "null"])
        attributes = node.setdefault("attrs", {})
        how = rng.random()
        if attributes and how < 0.7:
            key = rng.choice(list(attributes))
            attributes[key] = texts_changed(attributes[key].encode(), rng).decode("utf-8", "replace")
        elif how < 0.8:
            node["op"] = rng.choice(content["nodes"])["op"]
        elif node["inputs"] and how < 0.9:
            node["inputs"][rng.randrange(len(node["inputs"]))][0] = rng.randrange(len(content["nodes"]))
        elif node["inputs"]:
            del node["inputs"][rng.randrange(len(node["inputs"]))]
    return json.dumps(content).encode()


def setting_changed(data: bytes, rng: random.Random) -> bytes:
    """One attribute of one operator, of every kind of operator and attribute as often as of any other; the weights stay
    as they are."""
    content = json.loads(data)
    nodes = [node for node in content["nodes"] if node["op"] != "null" and node.get("attrs")]
    operator = rng.choice(sorted({node["op"] for node in nodes}))
    node = rng.choice([node for node in nodes if node["op"] == operator])
    key = rng.choice(sorted(node["attrs"]))
    parts = re.split(r"([\w.+-]+)", node["attrs"][key])
    place = rng.randrange(1, len(parts), 2) if len(parts) > 1 else 0
    parts[place] = rng.choice([*SETTINGS, *SETTINGS, f"{parts[place]},{parts[place]}", rng.choice(TEXTS)])
    node["attrs"][key] = "".join(parts)
    return json.dumps(content).encode()


def facts_changed(data: bytes, rng: random.Random) -> bytes:
    """The JSON within a .states file, which stays as long as it is where blanks can fill it up."""
    begin = data.index(b'{"progress"')
    facts, end = json.JSONDecoder().raw_decode(data[begin:].decode("latin-1"))
    for _ in range(rng.choice([1, 1, 2])):
        facts = value_changed(facts, rng)
    return data[:begin] + json.dumps(facts).encode().ljust(end)[:end] + data[begin + end :]


BINARY = (bytes_changed,)
TEXT = (texts_changed, texts_changed, bytes_changed)
JSON = (values_changed, values_changed, texts_changed, bytes_changed)
GRAPH = (setting_changed, setting_changed, setting_changed, attributes_changed, attributes_changed, *JSON)


# Sound files, and their readers


def config() -> Any:
    return compose([f"data_shape={SIDE}", "backbone=small"])


def model() -> Model:
    """The small network with random weights, in the form for training."""
    cfg = config()
    spec = ModelSpec.from_config(cfg, CLASSES)
    graph = attach_spec(build_train(cfg, len(CLASSES)), spec)
    shapes, _, aux_shapes = graph.infer_shape(data=(1, 3, SIDE, SIDE), label=(1, 3, 6))
    rng = np.random.default_rng(0)
    named = [pair for pair in zip(graph.list_arguments(), shapes, strict=True) if pair[0] not in ("data", "label")]
    args = {name: mx.nd.array(rng.normal(0, 0.1, shape)) for name, shape in named}
    named = list(zip(graph.list_auxiliary_states(), aux_shapes, strict=True))
    return Model(spec, graph, args, {name: mx.nd.array(rng.uniform(0.5, 1, shape)) for name, shape in named})


def make_checkpoint(folder: Path) -> None:
    made = model()
    made.symbol.save(str(folder / "ssd-symbol.json"))
    groups = {"arg": made.arg_params, "aux": made.aux_params}
    arrays = {f"{group}:{name}": array for group, part in groups.items() for name, array in part.items()}
    mx.nd.save(str(folder / "ssd-0001.params"), arrays)


def make_index(folder: Path) -> None:
    make_checkpoint(folder)
    entry = {"epoch": 1, "step": 4, "params": "ssd-0001.params", "states": None, "sha256": {}, "best": None,
             "value": 0.5, "values": {"val/map": 0.5}}  # fmt: skip
    index = {"last": entry, "best": entry, "kept": [entry], "finished": True, "words": ["epochs=1"]}
    (folder / NAME).write_text(json.dumps(index))


def train_state(folder: Path, *, resumed: bool) -> TrainState:
    """A training of two steps an epoch, at its beginning or where its checkpoint is."""
    cfg, batch = (
        compose([f"data_shape={SIDE}", "backbone=small", "batch_size=2", "training.ema=0.9"]),
        (2, 3, SIDE, SIDE),
    )
    data = SimpleNamespace(
        provide_data=[mx.io.DataDesc("data", batch)], provide_label=[mx.io.DataDesc("label", LABELS)]
    )
    checkpoints = Checkpoints(folder, "val/map_11pt", RetentionPolicy(1, None))
    saved = checkpoints.resume([]) if resumed else checkpoints.begin([])
    trainer = Trainer(trainer_config(cfg), CLASSES, data, 4, saved.start if saved else None)
    hooks = {"guards": Guards(guard_config(cfg), "val/map_11pt", checkpoints.advice), "ema": trainer.ema}
    made = TrainState(trainer, hooks, checkpoints, SaveInterval(None, None), "images")
    if saved:
        made.restore(saved, 2)
    return made


def step(training: TrainState) -> None:
    label = np.full(LABELS, -1, np.float32)
    label[:, 0] = 0, 0.2, 0.2, 0.6, 0.6, 0
    noise = np.random.default_rng(0).normal(0, 1, (2, 3, SIDE, SIDE)).astype(np.float32)
    batch = mx.io.DataBatch([mx.nd.array(noise)], [mx.nd.array(label)], pad=0)
    training.progress.count(training.trainer.step(batch), 2, 0.1)


def make_states(folder: Path) -> None:
    """A checkpoint without checksums, as of the first version: with them, no damaged byte is looked at."""
    training = train_state(folder, resumed=False)
    step(training)
    training.save(2)
    index = json.loads((folder / NAME).read_text())
    for entry in [index["last"], *index["kept"]]:
        entry["sha256"] = {}
    (folder / NAME).write_text(json.dumps(index))


def read_states(folder: Path) -> None:
    index = (folder / NAME).read_bytes()
    try:
        step(train_state(folder, resumed=True))
    finally:
        (folder / NAME).write_bytes(index)  # which resuming writes anew


SPACE = ["lr=interval(0.1,0.5)", "augment=mild,ssd", "epochs=1"]


def sweep_config(folder: Path) -> Any:
    sweeper = OmegaConf.load(CONF / "hydra" / "sweeper" / "optuna.yaml")
    sweeper.storage = f"sqlite:///{folder}/study.db"
    hydra = {"sweeper": sweeper, "sweep": {"dir": str(folder)}, "launcher": {"_target_": "x.BasicLauncher"}}
    return OmegaConf.create({"hydra": hydra, "seed": 0, "sweep": {"parallel": 1}})


def make_study(folder: Path) -> None:
    """One whose trials have failed, but for one that is running."""
    cfg = sweep_config(folder)
    cfg.hydra.sweeper.n_trials = 2
    study.search(cfg, SimpleNamespace(launch=lambda jobs, initial_job_idx: []), SPACE)  # type: ignore[arg-type]
    space, fixed = study.split(SPACE)
    study.next_trial(study.open_study(cfg.hydra.sweeper, fixed), cfg.hydra.sweeper, 0, space)


def read_study(folder: Path) -> None:
    """Searches on, with jobs that leave nothing. What it adds does not stay."""
    before = (folder / "study.db").read_bytes()
    cfg = sweep_config(folder)
    cfg.hydra.sweeper.n_trials = 4
    try:
        study.search(cfg, SimpleNamespace(launch=lambda jobs, initial_job_idx: []), SPACE)  # type: ignore[arg-type]
    finally:
        (folder / "study.db").write_bytes(before)
        (folder / "study.db-journal").unlink(missing_ok=True)


def make_bundle(folder: Path) -> None:
    made = model()
    write_bundle(folder / "bundle", made.spec, open_graph(made), made.arg_params, made.aux_params)


def make_onnx(folder: Path) -> None:
    FORMATS["onnx"].write(model(), folder / "ssd.onnx", None)  # type: ignore[arg-type]  # it calibrates nothing


def make_compat_bundle(folder: Path) -> None:
    """One that decodes as the original does, by MultiBoxDetection."""
    made = model()
    spec = replace(made.spec, compat="mxnet_ssd", resize_mode="force")
    FORMATS["mxnet"].write(replace(made, spec=spec), folder / "bundle", None)  # type: ignore[arg-type]


def make_int8(folder: Path) -> None:
    noise = [np.random.default_rng(0).normal(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)]
    FORMATS["int8"].write(model(), folder / "bundle", Calibration(lambda: noise, "minmax"))


def run_bundle(folder: Path) -> None:
    run_network(folder / "bundle")


def run_network(path: Path) -> None:
    """Opens a model, and lets it look at a black image."""
    opened = open_model(path)
    black = np.zeros((1, 3, opened.spec.height, opened.spec.width), np.float32)
    open_backend(opened, mx.cpu(), str(path)).forward(black)


def read_index_and_model(folder: Path) -> None:
    load_model(folder)


def image(suffix: str, width: int = 60, height: int = 40) -> bytes:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(suffix, cv2.GaussianBlur(noise, (5, 5), 2))[1])


def make_images(folder: Path) -> None:
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        (folder / f"a{suffix}").write_bytes(image(suffix))
    progressive = cv2.imencode(".jpg", np.zeros((50, 70, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
    (folder / "b.jpg").write_bytes(bytes(progressive))


def read_images(folder: Path) -> None:
    problem = None
    for path in sorted(folder.iterdir()):
        try:
            decode(path.read_bytes(), str(path))
        except UserError as error:
            problem = error
    if problem:
        raise problem


def make_yolo(folder: Path) -> None:
    for number in range(4):
        for place, data in (("images", image(".jpg")), ("labels", b"0 0.5 0.5 0.2 0.25\n1 0.25 0.5 0.5 0.5\n")):
            path = folder / place / "train" / f"{number}{'.jpg' if place == 'images' else '.txt'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nnc: 3\nnames:\n  0: circle\n  1: no\n  2: '010'\n")


def read_yolo(folder: Path) -> None:
    splits = {"train": None, "val": None, "test": None}
    _ = YOLO(str(folder), None, None, splits, None, "clip", HOLD_OUT).split("train")


def read_yolo_label(folder: Path) -> None:
    text = (folder / "labels" / "train" / "0.txt").read_text(errors="replace")
    yolo_text.corners(yolo_text.parse(text, "0.txt"), (60, 40))
    read_yolo(folder)


def make_coco(folder: Path) -> None:
    (folder / "images").mkdir()
    for number in range(3):
        (folder / "images" / f"{number}.jpg").write_bytes(image(".jpg"))
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 60, "height": 40} for number in range(3)]
    boxes = [{"id": number, "image_id": number % 3, "category_id": 1 + number % 2, "bbox": [1, 2, 30.5, 20],
              "iscrowd": 0, "area": 610} for number in range(5)]  # fmt: skip
    categories = [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog"}]
    (folder / "a.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


def read_coco(folder: Path) -> None:
    splits = {"train": [{"annotations": "a.json", "images": "images"}], "val": None, "test": None}
    _ = COCO(str(folder), None, splits, "clip", HOLD_OUT).split("train")


def make_csv(folder: Path) -> None:
    make_coco(folder)
    (folder / "a.json").unlink()
    rows = [f"{number % 3}.jpg,{'cat' if number % 2 else 'dog'},1,2,{30 + number},20" for number in range(5)]
    (folder / "a.csv").write_text("\n".join(["image,label,xmin,ymin,xmax,ymax", *rows, ""]))


def read_csv(folder: Path) -> None:
    splits = {"train": "a.csv", "val": None, "test": None}
    _ = CSV(str(folder), None, splits, "images", None, True, None, "pixels", "clip", HOLD_OUT).split("train")


def make_xml(folder: Path) -> None:
    item = ("<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30.5</xmax>"
            "<ymax>20</ymax></bndbox></object>")  # fmt: skip
    size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
    text = f"<annotation><filename>a.jpg</filename>{size}{item * 3}</annotation>"
    (folder / "a.xml").write_text(f"<?xml version='1.0' encoding='UTF-8'?>{text}")


def read_xml(folder: Path) -> None:
    voc_xml.parse((folder / "a.xml").read_bytes(), "a.xml")


def make_records(folder: Path) -> None:
    file = mx.recordio.MXIndexedRecordIO(str(folder / "a.idx"), str(folder / "a.rec"), "w")
    for number in range(4):
        label = np.array([2, 5, number % 3, 0.1, 0.2, 0.5, 0.6])
        file.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), image(".jpg")))
    file.close()
    (folder / "a.lst").write_text("".join(f"{number}\t0\timages/{number}.jpg\n" for number in range(4)))


def read_records(folder: Path) -> None:
    splits = {"train": "a.rec", "val": None, "test": None}
    problem = None
    try:
        _ = Rec(str(folder), CLASSES, None, splits, "clip", HOLD_OUT).split("train")
    except UserError as error:
        problem = error
    file = RecordFile(Records(*(folder / f"a{suffix}" for suffix in (".rec", ".idx", ".lst")), 4, 20))
    for number in range(min(len(file), 8)):
        decode(file.read(number).data, file.what(number))
    if problem:
        raise problem


def make_npz(folder: Path) -> None:
    """As much of a backbone of PyTorch as the table of names asks for."""
    names = OmegaConf.load(CONF / "weight_map" / "mobilenet_torch.yaml")
    arrays: dict[str, Any] = {}
    for modules in names.layers.values():
        for module, endings in zip(modules, names.parts, strict=False):
            arrays |= {f"{module}.{there}": np.ones((4,) * (1 + (there == "weight")), np.float32) for there in endings}
    np.savez(folder / "a.npz", **arrays)


def read_npz(folder: Path) -> None:
    with mx.name.NameManager():
        symbol = mobilenet.build(mx.sym.Variable("data"), multiplier=0.25, fix_gamma=False)
    load_npz(folder / "a.npz", OmegaConf.load(CONF / "weight_map" / "mobilenet_torch.yaml"), symbol)


def make_safetensors(folder: Path) -> None:
    arrays = {f"features.{number}.weight": np.ones((4, 3, 3, 3), np.float32) for number in range(4)}
    ends = np.cumsum([array.nbytes for array in arrays.values()]).tolist()
    places = zip([0, *ends], ends, strict=False)
    header = {name: {"dtype": "F32", "shape": list(array.shape), "data_offsets": list(place)}
              for (name, array), place in zip(arrays.items(), places, strict=True)}  # fmt: skip
    text = json.dumps(header).encode()
    (folder / "a.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values())
    )


def read_tensors(folder: Path) -> None:
    read_safetensors(folder / "a.safetensors")


def make_prototxt(folder: Path) -> None:
    layer = ('layer { name: "c%d" type: "Convolution" bottom: "data" top: "c%d" param { lr_mult: 1 } convolution_param '
             '{ num_output: 8 kernel_size: 3 pad: 1 stride: 2 weight_filler { type: "xavier" } } }\n')  # fmt: skip
    layers = "".join(layer % (number, number) for number in range(6))
    start = 'name: "net"\ninput: "data"\ninput_shape { dim: [1, 3, 64, 64] }\n# net\n'
    (folder / "a.prototxt").write_text(start + layers)


def read_prototxt(folder: Path) -> None:
    path = folder / "a.prototxt"
    prototxt.parse(prototxt.read_prototxt(path), "NetParameter", path, unknown=True)


def packed(number: int, data: bytes) -> bytes:
    from ssd.utils.protobuf import head

    return head(number, len(data)) + data


def make_caffemodel(folder: Path) -> None:
    blob = packed(7, packed(1, bytes([2, 3]))) + packed(5, np.arange(6, dtype="<f4").tobytes())
    old = bytes([8, 1, 16, 1, 24, 2, 32, 3]) + packed(5, np.arange(6, dtype="<f4").tobytes())
    layers = [packed(100, packed(1, b"a%d" % number) + packed(7, blob) + packed(7, old)) for number in range(4)]
    (folder / "a.caffemodel").write_bytes(packed(1, b"net") + b"".join(layers))


def read_caffemodel(folder: Path) -> None:
    read_weights(folder / "a.caffemodel")


def make_voc(folder: Path) -> None:
    for place in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / place).mkdir(parents=True)
    make_xml(folder)
    for number in range(4):
        (folder / "JPEGImages" / f"{number}.jpg").write_bytes(image(".jpg"))
        shutil.copy(folder / "a.xml", folder / "Annotations" / f"{number}.xml")
    (folder / "ImageSets" / "Main" / "train.txt").write_text("0\n1\n2\n3\n")
    (folder / "labels.txt").write_text("cat\ndog\n")


def read_voc(folder: Path) -> None:
    splits = {"train": ["train"], "val": [], "test": []}
    _ = VOC("mine", str(folder), None, splits, None, "clip", HOLD_OUT).split("train")


def make_lists(folder: Path) -> None:
    make_yolo(folder)
    (folder / "data.yaml").unlink()
    (folder / "train.txt").write_text("".join(f"./images/train/{number}.jpg\n" for number in range(4)))
    (folder / "obj.names").write_text("circle\nrectangle\ntraffic light\n")


def read_lists(folder: Path) -> None:
    splits = {"train": "train.txt", "val": None, "test": None}
    _ = YOLO(str(folder), "obj.names", None, splits, None, "clip", HOLD_OUT).split("train")


def make_videos(folder: Path) -> None:
    frame = cv2.imdecode(np.frombuffer(image(".png"), np.uint8), cv2.IMREAD_COLOR)
    for name, codec in (("a.mp4", "mp4v"), ("a.avi", "MJPG")):
        with video_file(folder / name, 25, (60, 40), codec) as add:
            for number in range(8):
                add(np.roll(frame, number, axis=1))


def read_videos(folder: Path) -> None:
    for _ in zip(range(1000), sources.frames(sources.find(folder), "error"), strict=False):
        pass


def make_run(folder: Path) -> None:
    run = folder / "run"
    (run / ".hydra").mkdir(parents=True)
    OmegaConf.save(config(), run / "config.yaml", resolve=True)
    OmegaConf.save(config(), run / ".hydra" / "config.yaml")
    (run / ".hydra" / "overrides.yaml").write_text(f"- data_shape={SIDE}\n- backbone=small\n- dataset=shapes\n")
    (run / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: {dataset: shapes, backbone: small}}}\n")
    write_numbers(run)
    shutil.copytree(run, folder / "sound")


def write_numbers(run: Path) -> None:
    how = Conditions("shapes", "val", 90, 200, "0f", 0.5, None, {"val": 0.2, "seed": 0}, thresholds="val")
    values = {"val/map_11pt": 0.5, "val/f1": 0.5, "val/ap_11pt/cat": 0.25}
    content = Results("finished", None, "val", "best", 2, 20, values, {"val": how}).to_json("train")
    (run / "metrics.json").write_text(json.dumps(content))
    head = "epoch,step,train/loss,val/map_11pt,train/images_per_second\n"
    (run / "metrics.csv").write_text(f"{head}1,10,3.5,,20\n2,20,2.5,0.25,30\n")
    curve = {"recall": [0.2, 0.5], "precision": [0.4, 0.8]}
    (run / "curves_val.json").write_text(json.dumps({"x": curve, "y": {"recall": [], "precision": []}}))


def read_run(folder: Path) -> None:
    found = find_runs([str(folder / "run"), str(folder / "sound")])
    table_of(found)
    lines_of(found, 80)
    compare_page(found)


def read_saved_run(folder: Path) -> None:
    """As rerun=, resume= and model= do, each by itself."""
    run, problem = folder / "run", None
    for read in (
        lambda: resume_overrides([f"resume={run}"]),
        lambda: check_same(run, config()),
        lambda: as_saved(compose([*saved_overrides([f"rerun={run}"]), f"rerun={run}"])),
        lambda: compose(inherit(["job=eval", f"model={run}"])),
        lambda: inherit(["experiments=finetune", f"init.weights={run}"]),
        lambda: Table(run / "metrics.csv", "step").cut(10),
    ):
        try:
            read()
        except UserError as error:
            problem = error
    if problem:
        raise problem


def make_sweep(folder: Path) -> None:
    for number in range(3):
        job = folder / "sweep" / str(number)
        Outcome(number, [f"epochs={number}", "seed=1"], FINISHED, "", 0.5, 10.0, 1000).write(job)
        write_numbers(job)


def read_sweep(folder: Path) -> None:
    rows = leaderboard.collect(folder / "sweep")
    leaderboard.as_csv(rows)
    leaderboard.as_markdown(rows, "")


def make_unsent(folder: Path) -> None:
    (folder / "a.txt").write_text("a")
    run = RunInfo("a", "train", {"epochs": 1}, folder, ["cat"], 1, 10, {"git.commit": "0"})
    contents = {"run": None, "metrics": [{"val/map_11pt": 0.5}, 1, 1000], "status": ["finished", {}, 1, {}],
                "artifact": [str(folder / "a.txt"), ""]}  # fmt: skip
    entries = [Entry(kind, content) for kind, content in contents.items()]
    unsent.keep(run, Settings(f"sqlite:///{folder}/a.db", str(folder / "artifacts"), "ssd", None), entries)
    (folder / RECORDS).write_text(json.dumps({"train": "/records/voc/train-0123456789ab"}))
    (folder / clean.PREPARED).write_text(json.dumps({"splits": {"train": {"file": "/records/voc/train-0/train.rec"}}}))


def read_unsent(folder: Path) -> None:
    list(clean.references(folder))
    run, _, _ = unsent.load(folder)
    unsent.pending_entries(replace(run, resumed_at=5))


def make_events(folder: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    file = EventFile(folder / "events", 0, "end/")
    for step in range(5):
        file.write(Event(summary=Summary(value=[Summary.Value(tag="train/loss", simple_value=step)])), step)
    file.close()


def read_events(folder: Path) -> None:
    for path in (folder / "events").iterdir():
        drop_from(path, 3, "end/")


def make_archive(folder: Path) -> None:
    """One archive is unpacked in a case; the others are there to take turns."""
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"data/{number}.txt", "0 0.5 0.5 0.1 0.1\n" * 50)
    for mode, name in (("w", "a.tar"), ("w:gz", "a.tar.gz"), ("w:xz", "a.tar.xz")):
        with tarfile.open(folder / name, mode) as archive:
            for number in range(4):
                info = tarfile.TarInfo(f"data/{number}.txt")
                info.size = 900
                archive.addfile(info, io.BytesIO(b"0 0.5 0.5 0.1 0.1\n" * 50))


def read_archive(folder: Path) -> None:
    problem = None
    for path in sorted(folder.glob("a.*")):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            try:
                download.unpack(path, Path(place) / "root", 0)
            except UserError as error:
                problem = error
            if set(os.listdir(place)) - {"root"}:
                raise AssertionError(f"{os.listdir(place)} were written outside of the root")
    if problem:
        raise problem


def params(folder: Path) -> None:
    load_params(folder / "ssd-0001.params")


def network(folder: Path) -> None:
    run_network(folder / "ssd-0001.params")


KINDS = {
    "params": Kind(make_checkpoint, params, {"ssd-0001.params": BINARY}),
    "symbol": Kind(make_checkpoint, network, {"ssd-symbol.json": GRAPH}),
    "spec": Kind(make_checkpoint, network, {"ssd-symbol.json": (described_otherwise,)}),
    "checkpoints.json": Kind(make_index, read_index_and_model, {NAME: JSON}),
    "bundle": Kind(make_bundle, run_bundle, {"bundle/model.yaml": TEXT}),
    "bundle-symbol": Kind(make_bundle, run_bundle, {"bundle/ssd-symbol.json": GRAPH}),
    "compat-symbol": Kind(make_compat_bundle, run_bundle, {"bundle/ssd-symbol.json": GRAPH}),
    "int8-symbol": Kind(make_int8, run_bundle, {"bundle/ssd-symbol.json": GRAPH}),
    "onnx": Kind(make_onnx, lambda folder: run_network(folder / "ssd.onnx"), {"ssd.onnx": BINARY}),
    "data.yaml": Kind(make_yolo, read_yolo, {"data.yaml": TEXT}),
    "yolo": Kind(make_yolo, read_yolo_label, {"labels/train/0.txt": TEXT}),
    "coco": Kind(make_coco, read_coco, {"a.json": JSON}),
    "csv": Kind(make_csv, read_csv, {"a.csv": TEXT}),
    "voc": Kind(make_xml, read_xml, {"a.xml": TEXT}),
    "images": Kind(make_images, read_images, {"*": BINARY}),
    "records": Kind(make_records, read_records, {"a.rec": BINARY, "a.idx": TEXT, "a.lst": TEXT}),
    "npz": Kind(make_npz, read_npz, {"a.npz": BINARY}),
    "safetensors": Kind(make_safetensors, read_tensors, {"a.safetensors": BINARY}),
    "prototxt": Kind(make_prototxt, read_prototxt, {"a.prototxt": TEXT}),
    "caffemodel": Kind(make_caffemodel, read_caffemodel, {"a.caffemodel": BINARY}),
    "config.yaml": Kind(make_run, read_run, {"run/config.yaml": TEXT}),
    "metrics": Kind(
        make_run, read_run, {"run/metrics.json": JSON, "run/metrics.csv": TEXT, "run/curves_val.json": JSON}
    ),
    "saved-run": Kind(
        make_run, read_saved_run, {"run/config.yaml": TEXT, "run/.hydra/*.yaml": TEXT, "run/metrics.csv": TEXT}
    ),
    "outcomes": Kind(
        make_sweep, read_sweep, {"sweep/1/job.json": JSON, "sweep/1/metrics.json": JSON, "sweep/1/metrics.csv": TEXT}
    ),
    "unsent": Kind(make_unsent, read_unsent, {unsent.FILE: JSON, RECORDS: JSON, clean.PREPARED: JSON}),
    "events": Kind(make_events, read_events, {"events/*": BINARY}),
    "voc-lists": Kind(make_voc, read_voc, {"ImageSets/Main/train.txt": TEXT, "Annotations/1.xml": TEXT}),
    "yolo-lists": Kind(make_lists, read_lists, {"train.txt": TEXT, "obj.names": TEXT}),
    "states": Kind(make_states, read_states, {"*.states": (bytes_changed, facts_changed, facts_changed)}),
    "study": Kind(make_study, read_study, {"study.db": (bytes_changed, texts_changed)}),
    "videos": Kind(make_videos, read_videos, {"a.*": BINARY}),
    "archives": Kind(make_archive, read_archive, {"a.*": BINARY}),
}


# Running them


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"of {', '.join(KINDS)}; all by default")
    parser.add_argument("--count", type=int, default=200, help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"no such kind: {min(unknown)}")
    heads = f"{'files':>7}{'read':>7}{'refused':>9}{'wrong':>7}  {'slowest':>16}  {'most memory':>18}"
    print(f"{'kind':18}{heads}", flush=True)
    failed = False
    for name in options.kinds or KINDS:
        with tempfile.TemporaryDirectory(prefix="ssd-fuzz-") as folder:
            tally = fuzz(name, Path(folder), options.count, options.seed, options.keep)
        wrong = sum(tally.results.values()) - tally.results["read"] - tally.results["refused"]
        slow, large = tally.slowest, tally.largest
        print(f"{name:18}{options.count:7}{tally.results['read']:7}{tally.results['refused']:9}{wrong:7}  "
              f"{slow[0]:7.2f} s #{slow[1]:<6}  {large[0] / 1e6:7.0f} MB #{large[1]:<6}", flush=True)  # fmt: skip
        for case, what in tally.wrong[:20]:
            print(f"    #{case}: {what}", flush=True)
        failed |= bool(wrong)
    return failed


def fuzz(name: str, folder: Path, count: int, seed: int, keep: Path | None = None) -> Tally:
    """Damages and reads `count` files of a kind, in the empty `folder`."""
    kind, tally = KINDS[name], Tally()
    alone(lambda: kind.make(folder))  # this process itself runs no network: its copies could not
    alone(lambda: kind.read(folder))  # the sound files are read
    sound, case = sound_files(kind, folder), 0

    def damage(number: int) -> tuple[Path, bytes]:
        return damaged(kind, folder, sound, f"{name} {seed} {number}")

    while case < count:
        case = _cases(kind, folder, (case, min(count, case + BATCH)), damage, tally)
        for path, data in sound.items():  # a process that was ended leaves what it read last
            path.write_bytes(data)
    for number, _ in tally.wrong if keep else ():
        shutil.copytree(folder, keep / f"{name}-{number}", dirs_exist_ok=True)
        path, data = damage(number)
        (keep / f"{name}-{number}" / path.relative_to(folder)).write_bytes(data)
    return tally


def alone(function: Callable[[], None]) -> None:
    """Runs in a process of its own. Errors: RuntimeError when that fails."""
    child = os.fork()
    if child == 0:
        ended = 1
        try:
            with quiet():
                function()
            ended = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(ended)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the sound files cannot be made or read")


@contextlib.contextmanager
def quiet() -> Any:
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def sound_files(kind: Kind, folder: Path) -> dict[Path, bytes]:
    paths = [path for pattern in kind.damaged for path in sorted(folder.glob(pattern)) if path.is_file()]
    return {path: path.read_bytes() for path in paths}


def damaged(kind: Kind, folder: Path, sound: dict[Path, bytes], seed: str) -> tuple[Path, bytes]:
    """The file of a case, and what it holds there."""
    rng = random.Random(seed)
    path = rng.choice(list(sound))
    hows = next(hows for pattern, hows in kind.damaged.items() if path.relative_to(folder).match(pattern))
    return path, rng.choice(hows)(sound[path], rng)


def _cases(kind: Kind, folder: Path, span: tuple[int, int], damage: Case, tally: Tally) -> int:
    """Cases from span[0] up to span[1], in one process; returns the first that is left, when that process is gone."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_reader(kind, folder, span, damage, writing)
    os.close(writing)
    case, ended, lines = span[0], "", b""
    used, begun = 0.0, time.monotonic()  # when the case began
    while case < span[1]:
        if not select.select([reading], [], [], 1.0)[0]:
            if cpu_seconds(child) - used > SECONDS or time.monotonic() - begun > WAITING:
                os.kill(child, signal.SIGKILL)
                ended = f"more than {SECONDS:g} s"
                break
            continue
        part = os.read(reading, 1 << 16)
        used, begun = cpu_seconds(child), time.monotonic()
        if not part:
            break
        *whole, lines = (lines + part).split(b"\n")
        for line in whole:
            _count(json.loads(line), tally)
            case += 1
            if case % 100 == 0:
                print(f"{case} cases so far", file=sys.stderr, flush=True)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if case < span[1]:
        what = ended or (f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}")
        tally.results["crash"] += 1
        tally.wrong.append((case, what))
        case += 1
    return case


def _count(line: dict[str, Any], tally: Tally) -> None:
    tally.results[line["result"]] += 1
    tally.slowest = max(tally.slowest, (line["seconds"], line["case"]))
    tally.largest = max(tally.largest, (line["memory"], line["case"]))
    if line["result"] not in ("read", "refused"):
        tally.wrong.append((line["case"], line["text"]))


def _be_reader(kind: Kind, folder: Path, span: tuple[int, int], damage: Case, pipe: int) -> None:
    """Never returns."""
    try:
        faulthandler.disable()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        limit = memory("VmSize") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with quiet():
            kind.read(folder)
            for case in range(*span):
                path, data = damage(case)
                before = path.read_bytes()
                path.write_bytes(data)
                line = {"case": case, **_one(kind, folder)}
                path.write_bytes(before)
                os.write(pipe, json.dumps(line).encode() + b"\n")
    finally:
        os._exit(0)


def _one(kind: Kind, folder: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of this case
    before, begun, text = memory("VmRSS"), time.process_time(), ""
    try:
        kind.read(folder)
        result = "read"
    except UserError as error:
        result = "refused" if "\n" not in str(error) else "lines"
        text = str(error)[:300]
    except BaseException as error:
        result = "traceback"
        place = traceback.extract_tb(error.__traceback__)
        own = next((frame for frame in reversed(place) if f"{os.sep}ssd{os.sep}" in frame.filename), place[-1])
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({own.filename}:{own.lineno})"
    seconds = time.process_time() - begun
    return {"result": result, "seconds": seconds, "memory": max(0, memory("VmHWM") - before), "text": text}


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, fields 14 and 15


def memory(key: str) -> int:
    """Bytes of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    sys.exit(main())
