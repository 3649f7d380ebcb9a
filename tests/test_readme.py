"""The READMEs are part of the product: their commands compose, their examples run, what they name exists."""

import ast
import configparser
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from ssd.checkpoint.model import load_model
from ssd.config.compose import compose
from ssd.config.overrides import OVERRIDE, composable, groups, hydra_choices, normalize, sweep_points
from ssd.data.images import read_image
from ssd.detection import Detector
from ssd.export.formats import FORMATS, Calibration
from ssd.run import INFORMATION, MULTIRUN, with_job
from ssd.symbol import build_train

ROOT = Path(__file__).resolve().parents[1]
READMES = sorted(path for path in (ROOT / "README.md", *ROOT.glob("[!.]*/README.md")))
NAMES = [str(path.relative_to(ROOT)) for path in READMES]
MARK = "<!-- Below this line:"  # of conf/README.md: what is generated is tested in tests/tools/test_config_reference.py
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = "outputs/train/small_128_shapes/2026-01-31_12-00-00.000000"  # $RUN of the commands
# Programs whose arguments are their own affair.
OTHERS = {"curl", "echo", "export", "git", "cd", "mlflow", "source", "tensorboard"}


def hand_written(name: str) -> str:
    return (ROOT / name).read_text().partition(MARK)[0]


TEXTS = {name: hand_written(name) for name in NAMES}


def blocks(text: str, language: str) -> list[str]:
    return [content for kind, content in FENCE.findall(text) if kind == language]


def block_with(text: str, language: str) -> str:
    """The one block of any README that contains it."""
    (found,) = {block for readme in TEXTS.values() for block in blocks(readme, language) if text in block}
    return found


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def commands(text: str) -> Iterator[str]:
    """Lines of all shell blocks, continued ones joined, and inline code that begins like a command."""
    for block in blocks(text, "sh"):
        yield from (line for line in block.replace("\\\n", " ").splitlines() if line and not line.startswith("#"))
    yield from (code for code in inline_code(text) if re.match(r"(python|make|pip|pytest|docker|ssd) \S", code))


COMMANDS = [(name, command) for name, text in TEXTS.items() for command in dict.fromkeys(commands(text))]


def overrides_of(command: str) -> list[str]:
    """Without comment, variables of the environment in front, and what starts the program on other machines."""
    overrides = shlex.split(command.replace("$RUN", RUN), comments=True)
    if overrides[0] == "srun":
        overrides = overrides[overrides.index("python") :]
    while overrides and re.match(r"[A-Z_]+=", overrides[0]):
        del overrides[0]
    return overrides


def check_ssd(overrides: list[str]) -> None:
    flags = {override for override in overrides if override.startswith("-")}
    assert flags <= INFORMATION | MULTIRUN | {"--config-dir"}, flags
    for override in overrides:
        if choice := re.match(r"(hydra/\w+)=(\w+)$", override):
            assert choice[2] in hydra_choices(choice[1]), override
    chosen = composable(normalize(with_job(overrides)))
    for point in sweep_points(chosen) if MULTIRUN & set(overrides) else [chosen]:
        compose(point)


@cache
def help_of(tool: str) -> str:
    done = subprocess.run([sys.executable, tool, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_tool(tool: str, overrides: list[str]) -> None:
    assert (ROOT / tool).is_file(), tool
    options = [override.partition("=")[0] for override in overrides if override.startswith("-")]
    if "argparse" in (ROOT / tool).read_text():
        missing = [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", help_of(tool))]
        assert not missing, missing
    else:
        assert not options, options


def check_make(overrides: list[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    values = dict(override.split("=", 1) for override in overrides if "=" in override)
    for target in (override for override in overrides if "=" not in override):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target
    for name in values:
        assert re.search(rf"^{name} \?=", text, re.MULTILINE), name
    if "run" in overrides:
        check_ssd(shlex.split(values.get("ARGS", "")))
    elif "test" in overrides:
        check_pytest(shlex.split(values.get("ARGS", "")))


def check_pytest(overrides: list[str]) -> None:
    for override in overrides:
        assert "/" not in override or (ROOT / override.partition("::")[0]).exists(), override


def check_pip(overrides: list[str]) -> None:
    """pip install -e '.[extra,extra]' of this package."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extras in re.findall(r"\[([^\]]+)\]", " ".join(overrides)):
        assert set(extras.split(",")) <= set(setup["options.extras_require"]), extras


@pytest.mark.parametrize(("readme", "command"), COMMANDS)
def test_commands_exist(readme: str, command: str) -> None:
    if re.match(r"[A-Z_]+=\$\(", command):  # a variable for the lines below
        return
    program, *rest = overrides = overrides_of(command)
    if program == "ssd" or overrides[:3] == ["python", "-m", "ssd.run"]:
        if "backbone=tiny" not in rest:  # the example, tested below
            check_ssd(rest if program == "ssd" else rest[2:])
    elif overrides[:3] == ["python", "-m", "pytest"] or program == "pytest":
        check_pytest(rest)
    elif program == "python":
        check_tool(rest[0], rest[1:])
    elif program == "make":
        check_make(rest)
    elif program == "pip":
        check_pip(rest)
    elif program == "docker":
        assert all((ROOT / override).is_file() for override in rest if override.startswith("tools/")), command
    else:
        assert program in OTHERS, command


def test_the_main_folders_have_a_readme() -> None:
    folders = ("ssd", "conf", "experiments", "tools", "tests")
    assert {"README.md", *(f"{folder}/README.md" for folder in folders)} <= {*NAMES}


@cache
def keys() -> set[str]:
    """Groups, and dotted keys of every job."""
    found = {key for job in groups()["job"] for key in nested(OmegaConf.to_container(compose([f"job={job}"])), "")}
    return found | {*groups()}


def nested(part: object, prefix: str) -> Iterator[str]:
    for key, value in part.items() if isinstance(part, dict) else ():
        yield f"{prefix}{key}"
        yield from nested(value, f"{prefix}{key}.")


@pytest.mark.parametrize("readme", NAMES)
def test_overrides_in_the_text_have_keys(readme: str) -> None:
    """Inline code such as `detection.flip=true`: the key, or the group, is one of the configuration."""
    for code in inline_code(TEXTS[readme]):
        for override in code.split():
            match = OVERRIDE.fullmatch(override)
            if match and match["key"].islower() and not match["key"].startswith("hydra"):
                assert match["key"].partition("@")[0] in keys(), f"{readme}: {override}"


@pytest.mark.parametrize("readme", NAMES)
def test_links_lead_somewhere(readme: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", TEXTS[readme])):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / readme).parent / path if path else ROOT / readme
        assert target.exists(), f"{readme}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{readme}: {link}"


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("readme", NAMES)
def test_paths_in_the_text_exist(readme: str) -> None:
    """Inline code that begins with one of the folders: `ssd/run.py`, `conf/job`, `tests/data::test_x`."""
    for code in inline_code(TEXTS[readme]):
        match = re.fullmatch(r"(?:ssd|conf|experiments|tools|tests)/[\w./-]*", code.partition("::")[0])
        # …/<name>.yaml, and files that examples would add
        if match and not code.endswith("/tiny.yaml") and not code.endswith("/tiny.py"):
            assert (ROOT / match[0]).exists(), f"{readme}: {code}"


@pytest.mark.parametrize("readme", NAMES)
def test_modules_in_the_text_exist(readme: str) -> None:
    """Inline code such as `ssd.detection.Detector` or `ssd.config.compose`."""
    for code in inline_code(TEXTS[readme]):
        if re.fullmatch(r"ssd(\.\w+)+", code) and code != "ssd.log":
            parts = code.split(".")
            module = next(
                file
                for end in range(len(parts), 0, -1)
                for file in (ROOT.joinpath(*parts[:end]).with_suffix(".py"), ROOT.joinpath(*parts[:end], "__init__.py"))
                if file.is_file()
            )
            rest = parts[len(module.relative_to(ROOT).with_suffix("").parts) - (module.name == "__init__.py") :]
            assert not rest or rest[0] in defined(module), f"{readme}: {code}"


def defined(module: Path) -> set[str]:
    """Names that a file defines or imports, at its top or for type checkers."""
    tree = ast.parse(module.read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {each.id for node in tree.body if isinstance(node, ast.Assign) for each in node.targets
              if isinstance(each, ast.Name)}  # fmt: skip
    imported = (alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names)
    return names | {alias.asname or alias.name for alias in imported}


def tree() -> list[str]:
    """Paths that the tree of the main README draws."""
    folders: list[str] = []
    found = []
    for line in block_with("the only import of MXNet", "text").splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders = [*folders[:depth], name]
        found.append("".join(folders))
    return found


def test_the_tree_is_that_of_the_checkout() -> None:
    missing = [path for path in tree() if not (ROOT / path).exists()]
    assert not missing, missing


def test_every_room_has_its_line_in_the_tree() -> None:
    rooms = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("ssd/*/__init__.py")}
    rooms |= {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("ssd/data/*/__init__.py")}
    rooms |= {str(path.relative_to(ROOT)) for path in ROOT.glob("ssd/*.py") if path.name != "__init__.py"}
    assert rooms == {path for path in tree() if path.startswith("ssd/")} - {"ssd/"}


@pytest.mark.parametrize("group", groups())
def test_every_group_and_choice_is_in_the_reference(group: str) -> None:
    assert f"| [`{group}`](#{group}) |" in TEXTS["conf/README.md"]
    section = (ROOT / "conf" / "README.md").read_text().partition(f"\n## {group}=\n")[2].partition("\n## ")[0]
    for choice in groups()[group]:
        assert f"| `{choice}` |" in section, choice


def test_every_recipe_is_in_the_table() -> None:
    table = TEXTS["experiments/README.md"].partition("## Recipes")[2].partition("\n## ")[0]
    for name in groups()["experiments"]:
        assert f"`{name}`" in table or (name.endswith("_plus") and f"`{name.removesuffix('_plus')}`" in table), name


def test_every_tool_is_in_its_readme() -> None:
    for tool in (*ROOT.glob("tools/*.py"), *ROOT.glob("tools/*.sh"), *ROOT.glob("tools/*/*.py")):
        assert str(tool.relative_to(ROOT)) in TEXTS["tools/README.md"], tool


def test_every_environment_variable_is_in_the_table() -> None:
    """Those whose names appear as text in the package."""
    prefixes = "SSD|DMLC|MLFLOW|OMP|DNNL|MXNET|HYDRA|SLURM"
    for path in ROOT.glob("ssd/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch(rf"(?:{prefixes})_[A-Z_]+[A-Z]", str(node.value)):
                assert f"`{node.value}`" in TEXTS["ssd/README.md"], f"{path}: {node.value}"


def test_the_example_backbone_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.py").write_text(block_with("backbones/tiny.py", "python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    backbone = yaml.safe_load(block_with("conf/backbone/tiny.yaml", "yaml"))
    backbone["network"]["_target_"] = "tiny.build"
    cfg = OmegaConf.merge(compose([]), {"backbone": backbone})
    assert "stage4_relu_cls_pred_conv_weight" in build_train(cfg).list_arguments()


@pytest.mark.parametrize("size", [(300, 530), (90, 70)], ids=["four times the input", "about the input"])
@pytest.mark.parametrize(("name", "text"), [("onnx", "InferenceSession"), ("mxnet", "load_checkpoint")])
def test_exports_run_without_this_package(name, text, size, checkpoint: Path, tmp_path: Path) -> None:
    """The examples as they stand, in a process that cannot import ssd, against the detector of the checkpoint."""
    format_ = FORMATS[name]
    format_.write(load_model(checkpoint), tmp_path / format_.name, Calibration(lambda: [], "minmax"))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), image)
    code = f"import sys\nsys.modules['ssd'] = None\n{block_with(text, 'python')}\nnumpy.save('rows.npy', rows)\n"
    (tmp_path / "example.py").write_text(f"import numpy\n{code}")
    done = subprocess.run(
        [sys.executable, "-I", "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    rows = np.load(tmp_path / "rows.npy")
    rows = rows[rows[:, 0] >= 0]
    (expected,) = Detector.load(str(checkpoint)).predict([read_image(tmp_path / "photo.jpg")])
    assert len(rows) == len(expected) > 3
    np.testing.assert_allclose(rows[:, :2], expected[:, :2], rtol=0, atol=1e-4)
    np.testing.assert_allclose(rows[:, 2:], expected[:, 2:], rtol=0, atol=0.01)


@pytest.mark.slow
def test_the_examples_of_a_dataset_a_logger_and_a_hook_train(tmp_path: Path, run_in) -> None:
    """With the commands that stand below them."""
    for name in ("my_dataset.py", "my_logger.py", "my_hook.py"):
        (tmp_path / name).write_text(block_with(f"# {name}", "python"))
    faces = tmp_path / "faces"
    faces.mkdir()
    for split, count in (("train", 4), ("val", 2)):
        files = [f"{split}{number}.jpg" for number in range(count)]
        (faces / f"{split}.txt").write_text("".join(f"{file} 80 60 10 12 50 48\n" for file in files))
        for number, file in enumerate(files):
            noise = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
            cv2.imwrite(str(faces / file), noise)
    modules = ("my_dataset", "my_logger", "my_hook")
    overrides = [override for name in modules for override in overrides_of(block_with(f"{name}.", "sh"))[3:]]
    short = ["data_shape=64", "batch_size=2", "epochs=2", "logger=[csv]", "device.threads=1", "loader.workers=0"]
    done = run_in(tmp_path, *overrides, *short, "hooks.target.loss=1000")
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("outputs/train/*/*")
    (line,) = (run / "lines.txt").read_text().splitlines()
    assert line.split()[0] == "1"  # the hook has ended the training after it
    assert "the loss is below 1000" in done.stderr + done.stdout
    assert "face" in (run / "config.yaml").read_text()
