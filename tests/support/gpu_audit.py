"""What a traced function would do on a GPU, read from the kernels that TensorFlow registers.

The x86 wheel of TensorFlow registers its GPU and XLA kernels on every machine, so no GPU is needed:
for each operation of a concrete function, of its loops and of what it calls, the kernel says
whether it exists for these dtypes, and which inputs and outputs lie in the host's memory. What is
not seen: where Grappler fuses or moves operations, what is placed on the CPU by name, and time.
Operations on constants alone are taken as folded.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import kernels, op_def_registry

LARGE_BYTES = 2**16
_LOOPS = {"While", "StatelessWhile"}
_CALLS = _LOOPS | {"PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf"}
_SOURCES = {"Const", "Placeholder", "NoOp"}
# Strings and handles: they never cross, whatever memory a kernel names.
_HANDLES = (types_pb2.DT_STRING, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)
# Compiled by XLA although its list of kernels has none: `matrix_test` compiles it on a CPU.
_COMPILED_ANYWAY = {"IdentityN"}


class Kind(enum.Enum):
    """What stands in the way of a GPU."""

    NO_KERNEL = "no GPU kernel"
    NO_XLA_KERNEL = "no XLA kernel"
    CONDITION = "the host waits for a loop's condition"
    TO_HOST = "copied from the device to the host"
    TO_DEVICE = "over 64 KB copied from the host to the device"
    HOST_ARGUMENT = "over 64 KB of an argument of a compiled part lie on the host"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault, in one step.

    Attributes:
      kind: of fault.
      what: the operations and the dtype.
      name: of the node, for whoever looks for it.
    """

    kind: Kind
    what: str
    name: str

    def __str__(self) -> str:
        """All in one line."""
        return f"{self.kind.value}: {self.what} ({self.name})"


@dataclasses.dataclass
class Audit:
    """What was found.

    Attributes:
      launches: operations of a step that are not compiled, and compiled parts; what a GPU is
        given one by one.
      findings: the faults.
      reductions: sums over the replicas in a step, counted on each replica.
      reduced_bytes: of all of them together.
    """

    launches: int
    findings: list[Finding]
    reductions: int = 0
    reduced_bytes: int = 0

    def counts(self) -> dict[Kind, int]:
        """How many of each kind."""
        return dict(collections.Counter(found.kind for found in self.findings))


@dataclasses.dataclass(frozen=True)
class _Port:
    """One input or output of a node: `size` in bytes, None where the shape is not known."""

    dtype: int
    on_host: bool
    size: int | None


def audit(concrete: Any) -> Audit:
    """Audits a concrete function: its loops' bodies count as the steps."""
    return _Auditor(concrete).run()


class _Auditor:
    def __init__(self, concrete: Any):
        graph = concrete.graph.as_graph_def(add_shapes=True)
        self._nodes = list(graph.node)
        self._functions = {f.signature.name: f for f in graph.library.function}
        self._is_compiled = concrete.function_def.attr["_XlaMustCompile"].b
        self._audit = Audit(0, [])

    def run(self) -> Audit:
        if self._is_compiled:
            self._audit.launches = 1
            for argument in self._nodes:
                if argument.op == "Placeholder":
                    self._check_argument(argument.name, _outputs(argument)[0])
            self._visit_compiled(self._nodes)
        else:
            self._visit(self._nodes, {}, in_loop=False)
        return self._audit

    def _note(self, kind: Kind, what: str, name: str) -> None:
        self._audit.findings.append(Finding(kind, what, name))

    def _check_argument(self, name: str, port: _Port) -> None:
        is_large = port.size is None or port.size > LARGE_BYTES
        if port.dtype == types_pb2.DT_INT32 and is_large:
            self._note(Kind.HOST_ARGUMENT, _dtype(port.dtype), name)

    def _visit_compiled(self, nodes: list[Any]) -> None:
        """Whether XLA has what it needs, in what is called too."""
        for node in nodes:
            if node.op in _CALLS or node.op in self._functions:
                for function in self._called(node):
                    self._visit_compiled(list(function.node_def))
            elif (
                node.op not in _SOURCES | _COMPILED_ANYWAY and _kernel(node, "XLA_GPU_JIT") is None
            ):
                self._note(Kind.NO_XLA_KERNEL, f"{node.op} {_types(node)}", node.name)

    def _called(self, node: Any) -> Iterator[Any]:
        for attribute in list(node.attr.values()):  # reading one that is absent adds it
            names = [attribute.func.name] if attribute.HasField("func") else []
            for name in [*names, *(f.name for f in attribute.list.func), node.op]:
                if name in self._functions:
                    yield self._functions[name]

    def _visit(self, nodes: list[Any], arguments: dict[str, _Port], in_loop: bool) -> None:
        """One graph or function: its nodes' kernels, then the copies between them."""
        made: dict[str, list[_Port]] = {name: [port] for name, port in arguments.items()}
        folded = {name for name in _folded(nodes) if name not in made}
        for node in nodes:
            made[node.name] = _outputs(node)
        for node in nodes:
            if node.name in folded or node.op in _SOURCES:
                continue
            self._audit.launches += in_loop and node.op not in _CALLS
            if in_loop and "Reduce" in node.op and "Collective" in node.op:
                self._audit.reductions += 1
                self._audit.reduced_bytes += made[node.name][0].size or 0
            if node.op not in _CALLS and _kernel(node) is None:
                self._note(Kind.NO_KERNEL, f"{node.op} {_types(node)}", node.name)
            references = [i for i in node.input if not i.startswith("^")]
            sources = [(name, _find(name, made)) for name in references]
            if in_loop:
                # A constant is copied once.
                moving = [source.split(":")[0] not in folded for source in references]
                self._check_copies(node, sources, moving)
            self._enter(node, [port for _, port in sources], in_loop)

    def _check_copies(
        self, node: Any, sources: list[tuple[str, _Port | None]], moving: list[bool]
    ) -> None:
        for (name, port), wanted, moves in zip(sources, _inputs(node), moving, strict=False):
            if port is None or not moves or port.dtype in _HANDLES or port.on_host == wanted:
                continue
            what = f"{_dtype(port.dtype)} {name} -> {node.op}"
            if not port.on_host:
                self._note(Kind.TO_HOST, what, node.name)
            elif port.size is None or port.size > LARGE_BYTES:
                self._note(Kind.TO_DEVICE, what, node.name)

    def _enter(self, node: Any, ports: list[_Port | None], in_loop: bool) -> None:
        """Goes into what a node calls."""
        if node.attr["_XlaMustCompile"].b:
            self._audit.launches += 1
            for number, port in enumerate(ports):
                if port is not None:
                    self._check_argument(f"{node.name}, argument {number}", port)
            for function in self._called(node):
                self._visit_compiled(list(function.node_def))
            return
        for function in self._called(node):
            known = ports[1:] if node.op in ("If", "StatelessIf") else ports
            arguments = {
                a.name: _Port(a.type, _in_host_memory(a.type), None if p is None else p.size)
                for a, p in zip(function.signature.input_arg, known, strict=False)
            }
            is_condition = function.signature.name == node.attr["cond"].func.name
            inside = in_loop or node.op in _LOOPS
            self._visit(list(function.node_def), arguments, inside)
            if is_condition and not _result_on_host(function):
                self._note(Kind.CONDITION, node.op, node.name)


def _find(reference: str, made: dict[str, list[_Port]]) -> _Port | None:
    """The port that an input of a node names: `node`, `node:0` or `node:output:0`."""
    name, *rest = reference.split(":")
    ports = made.get(name, [])
    number = int(rest[-1]) if rest and rest[-1].isdigit() else 0
    return ports[number] if number < len(ports) else None


def _result_on_host(function: Any) -> bool:
    """Whether the one result of a condition lies in the host's memory."""
    nodes = {node.name: node for node in function.node_def}
    name = next(iter(function.ret.values())).split(":")[0]
    while name in nodes and nodes[name].op == "Identity":
        name = nodes[name].input[0].split(":")[0]
    return name not in nodes or _outputs(nodes[name])[0].on_host


def _folded(nodes: list[Any]) -> set[str]:
    """Names of the nodes that follow from constants alone."""
    found: set[str] = set()
    for node in nodes:  # in an order in which inputs come first
        inputs = [i.split(":")[0] for i in node.input if not i.startswith("^")]
        definition = op_def_registry.get(node.op)
        is_pure = definition is not None and not definition.is_stateful and bool(inputs)
        if node.op == "Const" or (is_pure and node.op not in _CALLS and set(inputs) <= found):
            found.add(node.name)
    return found


@functools.cache
def _registered(op: str) -> list[Any]:
    return list(kernels.get_registered_kernels_for_op(op).kernel)


def _kernel(node: Any, *devices: str) -> Any:
    """The kernel for the node's dtypes on the first of the devices that has one, or None."""
    types = tuple((name, value.type) for name, value in node.attr.items())
    return _kernel_of(node.op, types, devices or ("GPU", "DEFAULT"))


@functools.cache
def _kernel_of(op: str, types: tuple[tuple[str, int], ...], devices: tuple[str, ...]) -> Any:
    given = dict(types)
    for device in devices:
        for kernel in _registered(op):
            fits = all(
                c.name not in given
                or not c.allowed_values.list.type
                or given[c.name] in c.allowed_values.list.type
                for c in kernel.constraint
            )
            if kernel.device_type == device and not kernel.label and fits:
                return kernel
    return None


def _in_host_memory(dtype: int) -> bool:
    """Where functions take and give a dtype: int32 on the host."""
    return dtype == types_pb2.DT_INT32 or dtype in _HANDLES


def _arguments(definitions: Any, node: Any) -> Iterator[tuple[str, int]]:
    """(name, dtype) of each tensor that a node takes or gives."""
    for a in definitions:
        if a.type_list_attr:
            types = list(node.attr[a.type_list_attr].list.type)
        else:
            count = node.attr[a.number_attr].i if a.number_attr else 1
            types = [a.type or node.attr[a.type_attr].type] * count
        yield from ((a.name, t) for t in types)


def _memories(node: Any, definitions: Any) -> list[tuple[int, bool]]:
    """(dtype, on the host) of each; without a kernel all is on the host."""
    ports = list(_arguments(definitions, node))
    if node.op in _CALLS:
        is_if = node.op in ("If", "StatelessIf")
        return [(t, _in_host_memory(t) or (is_if and name == "cond")) for name, t in ports]
    kernel = _kernel(node)
    if kernel is None:
        return [(t, node.op not in _SOURCES or _in_host_memory(t)) for _, t in ports]
    return [(t, name in kernel.host_memory_arg or t in _HANDLES) for name, t in ports]


def _inputs(node: Any) -> list[bool]:
    definition = op_def_registry.get(node.op)
    return [] if definition is None else [h for _, h in _memories(node, definition.input_arg)]


def _outputs(node: Any) -> list[_Port]:
    definition = op_def_registry.get(node.op)
    if definition is None:
        return []
    shapes = node.attr["_output_shapes"].list.shape
    found = []
    for n, (dtype, on_host) in enumerate(_memories(node, definition.output_arg)):
        shape = tf.TensorShape(shapes[n]) if n < len(shapes) else tf.TensorShape(None)
        numbers = shape.num_elements()
        size = None
        if numbers is not None and dtype not in _HANDLES:
            size = numbers * tf.dtypes.as_dtype(dtype).size
        found.append(_Port(dtype, on_host, size))
    return found


def _dtype(dtype: int) -> str:
    return str(tf.dtypes.as_dtype(dtype).name)


def _types(node: Any) -> str:
    values = (node.attr[name] for name in sorted(node.attr))
    return " ".join(_dtype(v.type) for v in values if v.WhichOneof("value") == "type")
