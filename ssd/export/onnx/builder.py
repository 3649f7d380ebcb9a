"""An ONNX graph that grows node by node, and an MXNet node as translators see it."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ssd.utils.errors import UserError

OPSET = 17  # read by onnxruntime from version 1.12 (2022) on


class Builder:
    """Nodes and constants under names of their own; methods return the names of what they add."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._taken: set[str] = set()

    @property
    def constants(self) -> list[TensorProto]:
        return list(self._constants.values())

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """A node with one output."""
        return self.add_many(op, inputs, name, 1, **attributes)[0]

    def add_many(self, op: str, inputs: Sequence[str], name: str, count: int, **attributes: Any) -> list[str]:
        name = self._free(name)
        outputs = [name] if count == 1 else [self._free(f"{name}_{index}") for index in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=f"{name}/{op}", **attributes))
        return outputs

    def constant(self, value: np.ndarray, name: str) -> str:
        name = self._free(name)
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def numbers(self, values: Sequence[int] | int, name: str) -> str:
        """An int64 constant, as shapes and axes are."""
        return self.constant(np.array(values, np.int64), name)

    def scalar(self, value: float, name: str) -> str:
        return self.constant(np.array(value, np.float32), name)

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """An MXNet node: its inputs by their ONNX names, and shapes for a batch of one."""

    op: str
    name: str
    attrs: dict[str, str]
    inputs: list[str]
    input_shapes: list[Shape]
    output_shapes: list[Shape]

    def text(self, key: str, default: str) -> str:
        return self.attrs.get(key, default)

    def value(self, key: str, default: Any) -> Any:
        """A number, truth value, tuple or None."""
        text = self.attrs.get(key)
        if text is None:
            return default
        if text in ("true", "false"):
            return text == "true"
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"operator {self.op} {self.name}: {key}={text} cannot be read") from error

    def flag(self, key: str, default: bool) -> bool:
        return bool(self.value(key, default))

    def pair(self, key: str, default: int) -> tuple[int, int]:
        """(vertical, horizontal) of a two-dimensional window."""
        value = self.value(key, ()) or (default, default)
        if isinstance(value, int) or len(value) != 2:
            raise self.unsupported(f"{key}={value}", "two-dimensional windows")
        return int(value[0]), int(value[1])

    def unsupported(self, what: str, known: str) -> UserError:
        return UserError(f"operator {self.op} {self.name}: {what} cannot be exported to ONNX, only {known}")
