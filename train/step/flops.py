"""Counts the arithmetic of a traced step: products of matrices, convolutions, recurrent layers.

A multiply-add is two floating point operations (FLOPs). All else (activations, normalisation, the
optimizer, the confusion matrix) is left out, as in the figures published for models and devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

_LOOPS = {"While", "StatelessWhile"}
_BRANCHES = {"If", "StatelessIf"}
_GATES = {b"lstm": 4, b"gru": 3}

Shape = list[int]


def count_flops(concrete: Any, length: int = 0, pieces: int = 1) -> int:
    """FLOPs of one step: forward and backward, of all replicas of this process.

    Args:
      concrete: a traced `TrainStep`, whose outermost loop makes a step in each turn.
      length: tokens of each text of the batch, which is how often a loop over them turns.
      pieces: into how many parts a batch is cut, which a loop trains one after the other.

    Raises:
      ValueError: an operation whose shape the graph does not tell.
    """
    graph = concrete.graph
    definition = graph.as_graph_def(add_shapes=True)
    ends = [x.name for x in (*graph.outputs, *graph.control_outputs)]
    # From the outside in; whatever is inside of these turns once for each token.
    turns = [1, pieces] if pieces > 1 else [1]
    return _Counter(definition.library, length, turns).count(_needed(definition.node, ends), {}, 0)


class _Counter:
    def __init__(self, library: Any, length: int, turns: list[int]):
        self._functions = {f.signature.name: f for f in library.function}
        self._length, self._turns = length, turns

    def count(self, nodes: list[Any], arguments: dict[str, Shape], depth: int) -> int:
        """Of a graph, or of the body of a function that takes `arguments`, in so many loops."""
        shapes, total = _Shapes(nodes, arguments, self._length), 0
        for node in nodes:
            if node.op in _FORMULAS:
                total += _FORMULAS[node.op](node, shapes)
            is_loop = node.op in _LOOPS
            for function in self._called(node):
                inputs = node.input[node.op in _BRANCHES :]
                given = {
                    argument.name: shape
                    for argument, i in zip(function.signature.input_arg, inputs)
                    if (shape := shapes.of(i)) is not None
                }
                ends = (*function.ret.values(), *function.control_ret.values())
                once = self.count(_needed(function.node_def, ends), given, depth + is_loop)
                total += self._times(node, depth) * once if is_loop and once else once
        return total

    def _called(self, node: Any) -> Iterator[Any]:
        names = [node.op]
        names += [node.attr[a].func.name for a in (["body"] if node.op in _LOOPS else [*node.attr])]
        yield from (self._functions[name] for name in names if name in self._functions)

    def _times(self, loop: Any, depth: int) -> int:
        if depth < len(self._turns):
            return self._turns[depth]
        if not self._length:
            raise ValueError(f"{loop.name} turns over tokens, of which there are none")
        return self._length


def _needed(nodes: Iterable[Any], ends: Iterable[str]) -> list[Any]:
    """The nodes on which a result or a side effect depends: Keras traces some in vain."""
    named = {node.name: node for node in nodes}
    pending, found = list(ends), {}
    while pending:
        name = pending.pop().lstrip("^").split(":")[0]
        if name in named and name not in found:
            found[name] = named[name]
            pending += named[name].input
    return list(found.values())


class _Shapes:
    """The shapes of a graph's tensors, by how a node's input names them.

    Attributes:
      length: tokens of each text; 0 without texts.
    """

    def __init__(self, nodes: Iterable[Any], arguments: dict[str, Shape], length: int):
        self._nodes, self._arguments = {node.name: node for node in nodes}, arguments
        self.length = length

    def of(self, reference: str) -> Shape | None:
        """None where the rank is not known; -1 for a size that is not."""
        name, *rest = reference.split(":")
        if name in self._arguments:
            return self._arguments[name]
        shapes = self._nodes[name].attr["_output_shapes"].list.shape if name in self._nodes else []
        place = int(rest[-1]) if rest else 0
        if len(rest) == 2:  # the outputs of several names stand one behind the other
            outputs = op_def_registry.get(self._nodes[name].op)
            names = [a.name for a in outputs.output_arg] if outputs else []
            place += names.index(rest[0]) if rest[0] in names else 0
        if place >= len(shapes) or shapes[place].unknown_rank:
            return None
        return [d.size for d in shapes[place].dim]

    def output(self, node: Any) -> Shape | None:
        """Of a node's first result."""
        return self.of(f"{node.name}:0") if node.attr["_output_shapes"].list.shape else None


def _product(node: Any, *sizes: Any) -> int:
    """Twice the product of sizes and shapes.

    Raises:
      ValueError: one is not known.
    """
    flat = [n for size in sizes for n in (size if isinstance(size, list) else [size])]
    if any(n is None or n < 0 for n in flat):
        raise ValueError(f"{node.op} {node.name} has no static shape")
    return 2 * math.prod(flat)


def _matmul(node: Any, shapes: _Shapes) -> int:
    if node.attr["T"].type == types_pb2.DT_DOUBLE:  # counts examples, see `train_step._confusion`
        return 0
    is_matmul, inner = node.op == "MatMul", []
    names = ("transpose_a", "transpose_b") if is_matmul else ("adj_x", "adj_y")
    for i, is_turned, last in zip(node.input, names, (-1, -2)):
        shape = shapes.of(i)
        inner.append(shape[-3 - last if node.attr[is_turned].b else last] if shape else -1)
    # Either may be lost: what a loop's gradient takes from a list has no shape.
    return _product(node, shapes.output(node), max(inner))


def _einsum(node: Any, shapes: _Shapes) -> int:
    sizes: dict[str, int] = {}
    labels = node.attr["equation"].s.decode().split("->")[0].split(",")
    for letters, i in zip(labels, node.input):
        for letter, size in zip(letters, shapes.of(i) or [-1] * len(letters)):
            sizes[letter] = max(size, sizes.get(letter, -1))
    return _product(node, list(sizes.values()))


def _convolution(forward: bool) -> Callable[[Any, _Shapes], int]:
    """Positions of the output times the filter; both gradients do as many multiply-adds."""

    def count(node: Any, shapes: _Shapes) -> int:
        of_output = shapes.output(node) if forward else shapes.of(node.input[2])
        # The gradient of the filter has its shape; other operations take it as their second input.
        is_filter = node.op.endswith("Filter")
        of_filter = shapes.output(node) if is_filter else shapes.of(node.input[1])
        # Each output channel of a depthwise filter reads one input channel only.
        taken = 2 if node.op.startswith("Depthwise") else 3
        return _product(node, of_output, of_filter[:taken] if of_filter else None)

    return count


def _cudnn(factor: int) -> Callable[[Any, _Shapes], int]:
    """All gates at all tokens; `factor` 2: the gradients of the inputs and of the weights."""

    def count(node: Any, shapes: _Shapes) -> int:
        inputs, state = shapes.of(node.input[0]), shapes.of(node.input[1])
        if not inputs or not state:
            return _product(node, None)
        # Rows of one layer: `state` is [1, B, units] or [B, 1, units].
        gates, units = _GATES[node.attr["rnn_mode"].s], state[-1]
        return factor * _product(
            node, shapes.length or -1, state, gates, inputs[-1] + units if inputs[-1] > 0 else -1
        )

    return count


_FORMULAS: dict[str, Callable[[Any, _Shapes], int]] = {
    "MatMul": _matmul,
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "BatchMatMulV3": _matmul,
    "Einsum": _einsum,
    "Conv2D": _convolution(forward=True),
    "Conv2DBackpropInput": _convolution(forward=False),
    "Conv2DBackpropFilter": _convolution(forward=False),
    "DepthwiseConv2dNative": _convolution(forward=True),
    "DepthwiseConv2dNativeBackpropInput": _convolution(forward=False),
    "DepthwiseConv2dNativeBackpropFilter": _convolution(forward=False),
    "CudnnRNNV3": _cudnn(1),
    "CudnnRNNBackpropV3": _cudnn(2),
}
