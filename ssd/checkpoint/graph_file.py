"""Graphs out of files (-symbol.json) that others may have written: checked, and tried, before this process uses them.

MXNet's operators trust their attributes: a convolution of no groups divides by zero, and a node can hold addresses that
are jumped to. Operators that could run anything are refused, and so are sizes without sense. Then the shapes and types
of all arrays are inferred in a process of its own, a copy of this one, so that what would end it ends that one: some
ten milliseconds. What would end a process only later, with the values of some weights, is looked for there: operators
with too few inputs, divisions of whole numbers, choices between arrays of different shapes. Operators that are none of
this package's networks compute a zero image as well, in a fresh process, which takes some seconds.
"""

import faulthandler
import hashlib
import json
import math
import os
import re
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ssd.mxnet_compat import mx
from ssd.utils.atomic_files import read_limited
from ssd.utils.errors import UserError
from ssd.utils.process import describe_exit

SPEC_ATTRIBUTE = "__ssd_model__"
MAX_BYTES = 64_000_000
MAX_NODES = 50_000
MAX_DEPTH = 8  # of subgraphs; those of fused convolutions hold none
MAX_ATTRIBUTE = 10_000_000  # characters; the names of 100,000 classes are one
MAX_ARRAY = 4 << 30  # bytes of one array for one image
FATAL = (signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGABRT)
LIMIT = 120  # seconds, far more than any graph takes
ANY_SIDES = (300, 300)  # where the file does not say what it is for
# They run Python, addresses out of attributes, or other graphs; read files; belong to other machines; or end the
# process with the values of some weights.
FORBIDDEN = re.compile(
    r"Custom|_?CustomFunction|_Native|_NDArray|_?CachedOp|_?FusedOp\w*|_TensorRT|_foreach|_while_loop|_cond|"
    r"_CrossDeviceCopy|_copyto|\w*cvim\w+|\w*cvcopy\w+|_?imdecode|(_contrib)?_tvm\w*|_contrib_dgl\w*|\w*_update\w*|"
    r"_subgraph_op_with\w*|_backward\w*|_contrib_quantized_(embedding|rnn)|_sg_mkldnn_selfatt\w*|"
    r"Sequence(Last|Mask|Reverse)|_(un)?ravel\w*index|_npi_[dhv]split\w*"
)
KNOWN = re.compile(
    r"null|Activation|BatchNorm|BlockGrad|Cast|Concat|Convolution|Deconvolution|Dropout|Flatten|FullyConnected|"
    r"L2Normalization|LRN|LeakyReLU|MakeLoss|Pooling|Reshape|SliceChannel|SoftmaxActivation|SoftmaxOutput|UpSampling|"
    r"_r?(plus|minus|mul|div|power|maximum|minimum)_scalar|_((not_)?equal|(greater|lesser)(_equal)?)_scalar|"
    r"_contrib_(MultiBox(Prior|Detection|Target)|box_(nms|iou)|(re|de)?quantize(_v2)?|quantized_\w+)|_sg_mkldnn_\w+|"
    r"_copy|_zeros|_ones|_arange|_maximum|_minimum|abs|amp_(multi)?cast|argsort|broadcast_\w+|clip|elemwise_\w+|exp|"
    r"expand_dims|expm1|identity|log|log_softmax|max|mean|min|negative|ones_like|pick|relu|reshape_like|sigmoid|slice|"
    r"slice_axis|slice_like|smooth_l1|softmax|sqrt|square|squeeze|stack|sum|tanh|tile|topk|transpose|where|zeros_like"
)
DIVIDES = re.compile(r"elemwise_div|broadcast_(div|mod)|_r?(div|mod)_scalar|mean")  # whole numbers end it by zero
OPTIONAL = ("state_cell", "sequence_length", "data_lengths", "label_lengths")  # inputs that depend on attributes
COUNTED = ("SliceChannel", "amp_multicast")
SEVERAL = {  # outputs, those that only training uses included
    re.compile(r"BatchNorm|_contrib_MultiBoxTarget|_contrib_((re)?quantize(_v2)?|quantized_\w+)|_sg_mkldnn_\w+"): 3,
    re.compile(r"L2Normalization|LRN|Dropout|_contrib_box_nms"): 2,
}
MOST = 1_000_000_000  # what a number in an attribute may be at most, where nothing below says less
WHOLE = re.compile(r"(?<![\w.+-])[+-]?\d+(?![\w.])")
FROM_ONE = {"kernel": 65_535, "stride": 65_535, "dilate": 65_535, "num_filter": 10_000_000, "num_hidden": 100_000_000,
            "num_group": 10_000_000, "num_args": MAX_NODES, "num_outputs": MAX_NODES, "scale": 64, "nsize": 65_535,
            "k": MOST, "reps": MOST}  # fmt: skip
FROM_ZERO = {"pad": 65_535, "adj": 65_535, "target_shape": MOST}
SIZES = {name: range(1, most + 1) for name, most in FROM_ONE.items()}
SIZES |= {name: range(most + 1) for name, most in FROM_ZERO.items()}
DAMAGE = (mx.base.MXNetError, ValueError, TypeError, KeyError, IndexError, AttributeError)

Nodes = Sequence[Mapping[str, Any]]

_accepted: set[bytes] = set()  # digests of graphs that this process has tried, or made itself


def load_graph(path: Path, sides: tuple[int, int] | None = None) -> Any:
    """The symbol in a file. sides: height and width of its input, where the file itself does not say.

    Errors: UserError when it is no graph, damaged, or none that may be run.
    """
    try:
        text = read_limited(path, MAX_BYTES, "a graph").decode()
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    digest = _digest(text)
    if digest not in _accepted:
        try:
            stored = json.loads(text)
            operators = check_graph(stored)
        except (ValueError, RecursionError) as error:
            problem = str(error)[:200]
            raise UserError(f"{path}: not an MXNet symbol file, or cut short ({problem})") from error
        _try_out(path, text, sides or _own_sides(stored), all(map(KNOWN.fullmatch, operators)))
    with graph_errors(str(path)):
        symbol = mx.sym.load_json(text)
        symbol.list_arguments()
    _accepted.add(digest)
    return symbol


def accept(text: str) -> None:
    """Marks a graph that this process has made itself as one that need not be tried."""
    _accepted.add(_digest(text))


@contextmanager
def graph_errors(source: str) -> Iterator[None]:
    """What MXNet says of a graph that does not hold together, inside of the block, as UserError naming its source."""
    try:
        yield
    except DAMAGE as error:
        if "alloc" in (line := first_line(error)):
            raise UserError(f"{source}: there is not enough memory for it ({line})") from error
        raise UserError(f"{source}: its graph is damaged, or not one of this package ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """What MXNet says of it, without its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "Error:" in line), lines[0])[:200]


def check_graph(stored: Any, depth: int = 0) -> set[str]:
    """The operators of a graph as JSON gives it. Errors: ValueError saying what makes it none that may be run."""
    if not isinstance(stored, dict) or not isinstance(stored.get("nodes"), list) or depth > MAX_DEPTH:
        raise ValueError("it has no list of nodes")
    nodes = stored["nodes"]
    if not 1 <= len(nodes) <= MAX_NODES:
        raise ValueError(f"it has {len(nodes)} nodes, expected 1 to {MAX_NODES}")
    operators = set()
    for number, node in enumerate(nodes):
        operators |= _check_node(node, nodes[:number], depth)
    _check_edges(stored.get("heads"), nodes, "heads")
    places = stored.get("arg_nodes", [])
    if not isinstance(places, list) or not all(_is_place(place, len(nodes)) for place in places):
        raise ValueError("arg_nodes are no nodes")
    return operators


def _check_node(node: Any, before: Sequence[Any], depth: int) -> set[str]:
    """before: the nodes before it, which are checked."""
    number = len(before)
    if not isinstance(node, dict):
        raise ValueError(f"node {number} is no object")
    operator, name = node.get("op"), node.get("name")
    if not isinstance(operator, str) or not isinstance(name, str) or len(name) > 10_000:
        raise ValueError(f"node {number} has no operator or no name")
    if FORBIDDEN.fullmatch(operator):
        raise ValueError(f"node {name[:60]!r} has the operator {operator!r}, which is not run out of files")
    _check_edges(node.get("inputs", []), before, f"inputs of {name[:60]!r}")
    for key in ("attrs", "attr", "param"):  # by the version that wrote it
        _check_attributes(node.get(key) or {}, name)
    attributes = _attributes(node)
    if attributes.get("sample_type") == "bilinear" and "num_filter" not in attributes:
        raise ValueError(f"{name[:60]!r} is bilinear and has no num_filter")
    axes = [int(axis) for axis in WHOLE.findall(attributes.get("axes", "")[:1000])]
    if operator.endswith("transpose") and sorted(axes) != list(range(len(axes))):  # it would write beyond its array
        raise ValueError(f"{name[:60]!r} has axes={attributes['axes'][:60]}, which are not each axis once")
    parts = node.get("subgraphs", [])
    if not isinstance(parts, list):
        raise ValueError(f"subgraphs of {name[:60]!r} are no list")
    return {operator}.union(*(check_graph(part, depth + 1) for part in parts))


def _check_edges(edges: Any, nodes: Sequence[Any], what: str) -> None:
    """Each is [node, output] or [node, output, version], the node one of those given. MXNet does not look whether the
    node has so many outputs."""
    if not isinstance(edges, list) or len(edges) > MAX_NODES:
        raise ValueError(f"{what} are no list")
    for edge in edges:
        whole = isinstance(edge, list) and 2 <= len(edge) <= 3 and _is_place(edge[0], len(nodes))
        if not whole or not all(_is_place(value, MAX_NODES) for value in edge[1:]):
            raise ValueError(f"{what}: {str(edge)[:60]} is no output of a node before it")
        if edge[1] and edge[1] >= _outputs(nodes[edge[0]]):
            raise ValueError(f"{what}: {str(edge)[:60]} is an output that node {edge[0]} does not have")


def _outputs(node: dict[str, Any]) -> int:
    """How many outputs a node has, at most; where its operator is none of KNOWN, that is found out by running it."""
    attributes, operator = _attributes(node), node["op"]
    if not KNOWN.fullmatch(operator):
        return MAX_NODES
    if operator in COUNTED:
        count = attributes.get("num_outputs", "1")
        return int(count) if count.isdecimal() else 1
    if operator == "topk":
        return 2 if attributes.get("ret_typ") == "both" else 1
    return next((count for names, count in SEVERAL.items() if names.fullmatch(operator)), 1)


def _attributes(node: Mapping[str, Any]) -> Mapping[str, str]:
    return node.get("attrs") or node.get("attr") or node.get("param") or {}


def _is_place(value: Any, count: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count


def _check_attributes(attributes: Any, name: str) -> None:
    if not isinstance(attributes, dict):
        raise ValueError(f"attributes of {name[:60]!r} are no object")
    for key, value in attributes.items():
        if not isinstance(value, str) or len(value) > MAX_ATTRIBUTE:
            raise ValueError(f"attribute {key[:60]!r} of {name[:60]!r} is no text")
        if key.startswith("__"):
            continue
        allowed = SIZES.get(key, range(-MOST, MOST + 1))
        for found in WHOLE.findall(value[:100_000]):
            if len(found) > 20 or int(found) not in allowed:
                raise ValueError(f"{key}={value[:60]} of {name[:60]!r} is out of range")
    filters, groups = attributes.get("num_filter", "0"), attributes.get("num_group", "1")
    if filters.isdecimal() and not (groups.isdecimal() and int(filters) % int(groups) == 0):
        raise ValueError(f"{name[:60]!r} has {groups[:20]} groups of {filters[:20]} filters")


def _own_sides(stored: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the input as the file describes it."""
    for node in stored["nodes"]:
        text = (node.get("attrs") or node.get("attr") or {}).get(SPEC_ATTRIBUTE)
        if text is not None:
            try:
                content = json.loads(text)
                sides = content["height"], content["width"]
            except (ValueError, TypeError, KeyError, RecursionError):
                break
            if all(_is_place(side, 16_385) for side in sides):
                return sides
    return ANY_SIDES


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _try_out(path: Path, text: str, sides: tuple[int, int], known: bool) -> None:
    """Errors: UserError when the graph ends the process that infers its shapes, or computes with it."""
    ended, problem = _in_copy(text, sides)
    if ended == 0 and not problem and not known:
        ended, problem = _in_fresh_process(text, sides)
    if problem:
        raise UserError(f"{path}: {problem}")
    if ended is None:
        raise UserError(f"{path}: its graph is not understood within {LIMIT} seconds")
    if ended:
        raise UserError(f"{path}: its graph is damaged: it ends the process that uses it ({describe_exit(ended)})")


def try_shapes(text: str, sides: tuple[int, int]) -> str:
    """Infers all shapes and types for an image and for two; what is wrong with them, or "". What MXNet itself refuses,
    it refuses again."""
    try:
        inside = mx.sym.load_json(text).get_internals()
        stored = json.loads(inside.tojson())  # as this version has it: older files leave inputs out
        arguments = inside.list_arguments()
    except DAMAGE:
        return ""
    if "data" not in arguments:
        return "its graph has no input of the name data"
    nodes, outputs = stored["nodes"], [(node, number) for node, number, *_ in stored["heads"]]
    return _wrong_inputs(nodes) or _wrong_shapes(inside, nodes, outputs, sides) or _wrong_types(inside, nodes, outputs)


def _wrong_inputs(nodes: Nodes) -> str:
    """Operators read inputs that they do not have."""
    for node in nodes:
        least, most = _input_counts(node)
        if not least <= len(node["inputs"]) <= most:
            return f"its graph is damaged: {node['name'][:60]} ({node['op'][:60]}) has {len(node['inputs'])} inputs"
    return ""


def _input_counts(node: Mapping[str, Any]) -> tuple[int, int]:
    """How many inputs a node may have, at least and at most."""
    names, is_list, bias_by_default = _inputs_of(node["op"])
    attributes = _attributes(node)
    if is_list or names is None:
        counted = attributes.get("num_args", "") if is_list and node["op"] in ("Concat", "stack") else ""
        return (int(counted), int(counted)) if counted.isdecimal() else (0, MAX_NODES)
    left_out = set()
    if attributes.get("no_bias", str(not bias_by_default)).lower() in ("true", "1"):
        left_out |= {"bias", "min_bias", "max_bias"}
    if node["op"] == "LeakyReLU" and attributes.get("act_type") != "prelu":
        left_out.add("gamma")
    if attributes.get("use_length", "").lower() not in ("true", "1"):
        left_out.add("length")
    wanted = [name for name in names if name not in left_out]
    return len([name for name in wanted if name not in OPTIONAL]), len(wanted)


@lru_cache(maxsize=1000)
def _inputs_of(operator: str) -> tuple[list[str] | None, bool, bool]:
    """The names of an operator's inputs, None where MXNet does not say; whether they are a list of any length; and
    whether it has a bias where nothing is said."""
    if operator == "null":
        return [], False, False
    found = mx.operator.get_operator_arguments(operator)
    pairs = list(zip(found.names, found.types, strict=True))
    names = [name for name, kind in pairs if kind.startswith("NDArray")]
    is_list = any(kind.startswith("NDArray-or-Symbol[]") for _, kind in pairs)
    bias = not any(name == "no_bias" and "default=1" in kind for name, kind in pairs)
    return names if found.narg else None, is_list, bias


def _wrong_shapes(inside: Any, nodes: Nodes, outputs: Sequence[tuple[int, int]], sides: tuple[int, int]) -> str:
    """Arrays larger than any network's, and choices (where) between arrays of different shapes: MXNet takes these, and
    divides by zero or reads beyond an array. outputs: node and number of each output of `inside`."""
    chooses = [node for node in nodes if node["op"] == "where"]
    for count in (1, 2):
        try:
            label = {"label": (count, 1, 6)} if "label" in inside.list_arguments() else {}
            found = inside.infer_shape_partial(data=(count, 3, *sides), **label)[1] or ()
        except DAMAGE as error:
            return f"its graph is damaged: its arrays do not go together ({first_line(error)})" if chooses else ""
        shapes = dict(zip(outputs, found, strict=False))
        for (place, _), shape in shapes.items():
            if 4 * math.prod(side for side in shape or () if side > 0) > MAX_ARRAY * count:
                return f"its graph needs more than {MAX_ARRAY >> 30} GB for {nodes[place]['name'][:60]}"
        for node in chooses:
            edges = [(place, number) for place, number, *_ in node["inputs"]]
            known = {shapes[edge] for edge in edges if edge in shapes} - {None, ()}
            if len(known) > 1 or not all(edge in shapes for edge in edges):
                return f"its graph is damaged: {node['name'][:60]} (where) chooses between arrays of different shapes"
    return ""


def _wrong_types(inside: Any, nodes: Nodes, outputs: Sequence[tuple[int, int]]) -> str:
    """Divisions of whole numbers, of which one by zero ends the process. Weights are none, see load_params()."""
    divides = [node for node in nodes if DIVIDES.fullmatch(node["op"])]
    if not divides:
        return ""
    try:
        found = inside.infer_type_partial(**dict.fromkeys(inside.list_arguments(), np.float32))[1] or ()
    except DAMAGE as error:
        return f"its graph is damaged: its arrays have no types ({first_line(error)})"
    types = dict(zip(outputs, found, strict=False))
    for node in divides:
        given = [types.get((place, number)) for place, number, *_ in node["inputs"]]
        if any(kind is None or np.dtype(kind).kind in "iub" for kind in given):
            return f"its graph is damaged: {node['name'][:60]} ({node['op']}) divides whole numbers"
    return ""


def try_all(text: str, sides: tuple[int, int]) -> str:
    """try_shapes, and computes a zero image with weights of 1."""
    problem = try_shapes(text, sides)
    if problem:
        return problem
    try:
        symbol = mx.sym.load_json(text)
        given = {name: (1, 1, 6) for name in symbol.list_arguments() if name == "label"}
        executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=(1, 3, *sides), **given)
        for output in executor.forward(is_train=False):
            output.wait_to_read()
    except DAMAGE as error:
        return f"its graph cannot be run ({first_line(error)})"
    return ""


def _in_copy(text: str, sides: tuple[int, int]) -> tuple[int | None, str]:
    """How a copy of this process ended that tried the shapes (None: not in time), and what it found."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, of which the copy uses none
        child = os.fork()
    if child == 0:
        _be_copy(text, sides, (reading, writing))
    os.close(writing)
    try:
        found = _read_all(reading)
        if found is None:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(reading)
        status = os.waitpid(child, 0)[1]
    return (None, "") if found is None else (os.waitstatus_to_exitcode(status), found)


def _be_copy(text: str, sides: tuple[int, int], pipe: Sequence[int]) -> None:
    """Never returns: whatever happens, nothing of the process that was copied goes on here."""
    ended = 1
    try:
        os.close(pipe[0])
        faulthandler.disable()
        for name in FATAL:
            signal.signal(name, signal.SIG_DFL)  # rather than MXNet's own, which end otherwise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for handle in (1, 2):  # MXNet tells there of what ends it
            os.dup2(nowhere, handle)
        os.write(pipe[1], try_shapes(text, sides).encode())
        ended = 0
    finally:
        os._exit(ended)


def _read_all(handle: int) -> str | None:
    """What comes through a pipe until it is closed; None when that takes too long."""
    found = b""
    while select.select([handle], [], [], LIMIT)[0]:
        part = os.read(handle, 1 << 16)
        if not part:
            return found.decode()
        found += part
    return None


def _in_fresh_process(text: str, sides: tuple[int, int]) -> tuple[int | None, str]:
    """The same of a process that starts anew, and computes: threads of this one do not survive in a copy."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "ssd.checkpoint.graph_file", *map(str, sides)]
    environment = os.environ | {"PYTHONPATH": path}
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=LIMIT, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    print(try_all(sys.stdin.read(), (int(sys.argv[1]), int(sys.argv[2]))))
