"""The layers of ssd/: a room imports from rooms below it, without circles, and says what it is for."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "ssd"

# From the top down. Rooms of one line do not import each other.
LAYERS = """\
run
sweeps
jobs
diagnostics benchmark
training
evaluation
tracking
weights
serving importers
export
detection
report runs
graph_passes launch
checkpoint
data.loaders
data.datasets
data.recordio
data.transforms data.inspection
data
symbol
config
ops
mxnet_compat
utils
""".splitlines()
RANK = {room: -number for number, line in enumerate(LAYERS) for room in line.split()}
RANK[""] = -len(LAYERS)  # ssd/__init__.py, which holds the version

# Imports inside functions that keep MXNet, MLflow, OpenCV or optional packages out of what does not need them.
LATE = {
    "run": "the command line answers --help without MXNet",
    "jobs": "jobs/__init__.py is imported by run",
    "sweeps": "Hydra imports the plugins at every start; a leaderboard may go to MLflow",
    "benchmark": "the worker sets its threads before MXNet is imported",
    "detection": "ONNX files are read without MXNet",
    "export": "each format needs its own extra",
    "tracking": "the writer is made without what it writes models with",
    "data.datasets": "only a download needs pooch",
    "weights": "only a download needs pooch",
    "runs": "run.py imports it for every --help; PyYAML is read by those that have a saved run",
}

# Rooms that work with the whole configuration; the others get small frozen dataclasses out of ssd/config/parts.py.
WHOLE = ("run", "sweeps", "jobs", "runs", "config")
# What users call with what compose() returns, and converts it.
PUBLIC = {"build_train", "build_test", "feature_maps", "make_dataset", "from_config"}
# The only ones that change a configuration: before it is resolved, and to resolve it.
WRITERS = {"config.credentials", "jobs.runtime"}


def modules() -> dict[str, Path]:
    """Dotted name below ssd -> file; packages by the name of their folder."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in RANK else parts[0]


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """(module of ssd, whether it is imported inside a function) of every import; those for types alone left out."""

    def walk(node: ast.AST, late: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "ssd":
                for name in child.names:
                    whole = f"{child.module}.{name.name}".removeprefix("ssd.")
                    yield (whole if whole in MODULES else str(child.module)[4:]), late
            elif isinstance(child, ast.Import):
                for name in child.names:
                    if name.name.startswith("ssd."):
                        yield name.name[4:], late
            yield from walk(child, late or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    return walk(ast.parse(MODULES[module].read_text()), False)


def circle(edges: dict[str, set[str]]) -> list[str] | None:
    """A circle of arrows, or None."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        found = next((found for after in sorted(edges[node]) if (found := visit(after, [*path, node]))), None)
        done.add(node)
        return found

    return next((found for node in sorted(edges) if (found := visit(node, []))), None)


@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_imports_point_down(module: str) -> None:
    room = room_of(module)
    assert room in RANK, f"ssd/{room} has no place in the layers"
    for target, late in imports(module):
        other = room_of(target)
        if other == room or (module == "data" and other.startswith("data.")):  # which offers what users derive from
            continue
        assert RANK[other] < RANK[room], f"ssd.{module} imports ssd.{target}, which is not below it"
        assert not late or room in LATE, f"ssd.{module} imports ssd.{target} inside a function"


def test_no_circle_of_modules() -> None:
    edges = defaultdict(set, {module: {to for to, _ in imports(module)} - {module} for module in MODULES})
    assert circle(edges) is None


def test_no_circle_of_rooms() -> None:
    edges: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        if module not in ("", "data"):
            edges[room_of(module)] |= {room_of(to) for to, _ in imports(module)} - {room_of(module)}
    assert circle(edges) is None


def test_a_circle_is_found() -> None:
    assert circle(defaultdict(set, {"a": {"b"}, "b": {"c"}, "c": {"b"}})) == ["b", "c", "b"]


def test_every_room_says_what_it_is_for() -> None:
    for path in ROOT.rglob("*.py"):
        if "plugins" not in path.parts:
            package = path.parent / "__init__.py"
            assert package.is_file(), f"{path.parent} is no package"
            assert ast.get_docstring(ast.parse(package.read_text())), f"{package} has no docstring"


@pytest.mark.parametrize("module", [module for module in MODULES if module and room_of(module) not in WHOLE])
def test_no_function_below_the_jobs_takes_the_whole_configuration(module: str) -> None:
    assert list(takers(ast.parse(MODULES[module].read_text()))) == []


def takers(tree: ast.Module) -> Iterator[str]:
    """Functions with a parameter of the type DictConfig, or, but for the public ones, of the name cfg."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for given in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
                kind = ast.unparse(given.annotation) if given.annotation else ""
                if "DictConfig" in kind or (given.arg == "cfg" and node.name not in PUBLIC):
                    yield node.name


@pytest.mark.parametrize("module", [module for module in MODULES if module not in WRITERS])
def test_nobody_changes_the_configuration(module: str) -> None:
    assert list(changes(ast.parse(MODULES[module].read_text()))) == []


def changes(tree: ast.Module) -> Iterator[str]:
    """Statements that assign into cfg, or call what does."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            root: ast.AST = node
            while isinstance(root, (ast.Attribute, ast.Subscript)):
                root = root.value
            if isinstance(root, ast.Name) and root.id == "cfg":
                yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if re.fullmatch(r"OmegaConf\.(update|set_readonly)|open_dict|cfg(\.\w+)*\.(update|pop|merge_with)", called):
                yield called


def test_what_takes_or_changes_a_configuration_is_found() -> None:
    code = "def f(cfg): cfg.a.b = 1; cfg['a'] += 1; del cfg.a; cfg.a.update(b=1); OmegaConf.update(cfg, 'a', 1)"
    assert list(takers(ast.parse(code))) == ["f"]
    assert list(takers(ast.parse("def f(group: DictConfig | None): ..."))) == ["f"]
    assert set(changes(ast.parse(code))) == {"cfg.a.b", "cfg['a']", "cfg.a", "cfg.a.update", "OmegaConf.update"}
    assert not list(changes(ast.parse("cfg = resolved(cfg, {}); x.a = cfg.b")))
