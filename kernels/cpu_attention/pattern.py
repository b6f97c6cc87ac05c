"""Finds attention in a model of OpenVINO: products, a softmax and the orders of axes that torch's exporter writes."""

from dataclasses import dataclass

import openvino
from openvino import Node, Output, Type

from ..injected_attention.openvino_op import find_injected

Axes = tuple[str, ...]
READABLE = (Type.f32, Type.f16, Type.f64, Type.i32, Type.i64)
MOST_NUMBERS = 8
"""Of a constant that is read: an order of axes, or one factor."""
ROWS, KEYS = ("sample", "head", "row", "channel"), ("sample", "head", "channel", "row")


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Sizes of an attention; None where the model leaves them free. `second` counts the keys of the injected part."""

    batch: int | None
    heads: int
    queries: int | None
    keys: int | None
    width: int
    second: int | None = 0

    @property
    def work(self) -> int | None:
        """Multiplications of both products, None where a size is free."""
        sizes = (self.batch, self.queries, self.keys, self.second)
        if any(size is None for size in sizes):
            return None
        batch, queries, keys, second = (size or 0 for size in sizes)
        return 2 * batch * self.heads * queries * (keys + second) * self.width


@dataclass(frozen=True, slots=True)
class FoundAttention:
    """One attention: what goes in, each [B, rows, C], its sizes, and the output that it gives to others, [B, N, C]."""

    inputs: tuple[Output, ...]
    heads: int
    scale: float
    output: Output

    @property
    def shape(self) -> AttentionShape:
        """Sizes as far as the model knows them."""
        query, key, *rest = (tensor.get_partial_shape() for tensor in self.inputs)
        second = _size(rest[1][1]) if len(rest) > 1 else 0
        width = query[2].get_length() // self.heads
        return AttentionShape(_size(query[0]), self.heads, _size(query[1]), _size(key[1]), width, second)


def find_attention(model: openvino.Model) -> list[FoundAttention]:
    """Every attention over all keys, without a mask, in the model's order; what looks otherwise is left out."""
    operations = model.get_ordered_ops()
    injected = [FoundAttention(*one) for one in find_injected(operations)]
    softmaxes = (node for node in operations if node.get_type_name() == "Softmax")
    plain = [found for node in softmaxes if (found := _of_softmax(node)) is not None]
    return injected + plain


def _of_softmax(softmax: Node) -> FoundAttention | None:
    """The attention around a softmax over the keys, None where the nodes beside it are not those of one."""
    scores, scale = _unscaled(softmax.input_value(0))
    product, user = scores.get_node(), _only_user(softmax.output(0))
    if user is None or product.get_type_name() != "MatMul" or user.get_node().get_type_name() != "MatMul":
        return None
    weighted = user.get_node()
    if softmax.get_attributes()["axis"] not in (3, -1) or user.get_index() != 0:
        return None
    output, turned = _merged(weighted), product.get_attributes()["transpose_b"]
    if output is None or product.get_attributes()["transpose_a"] or weighted.get_attributes()["transpose_b"]:
        return None
    parts = [_traced(product.input_value(0)), _traced(product.input_value(1)), _traced(weighted.input_value(1))]
    if any(part is None for part in parts):
        return None
    query, key, value = (part for part in parts if part is not None)
    expected = (ROWS, ROWS if turned else KEYS, ROWS)
    if tuple(part.axes for part in (query, key, value)) != expected or value.scale != 1:
        return None
    if len({part.heads for part in (query, key, value)}) > 1 or len({part.width for part in (query, key, value)}) > 1:
        return None
    sizes = [[_size(size) for size in part.source.get_partial_shape()] for part in (query, key, value)]
    if not _agree(sizes[0][:1], sizes[1][:1]) or not _agree(sizes[1], sizes[2]):
        # A product would broadcast one of them, which the kernel does not.
        return None
    if not _agree([*sizes[0][:2], query.heads * query.width], [_size(size) for size in output.get_partial_shape()]):
        return None
    return FoundAttention(
        (query.source, key.source, value.source), query.heads, query.scale * key.scale * scale, output
    )


@dataclass(frozen=True, slots=True)
class _Traced:
    """A tensor that is [B, rows, C] at its source, split into heads; its axes, and what it was multiplied with."""

    source: Output
    heads: int
    width: int
    axes: Axes
    scale: float = 1.0


def _traced(tensor: Output) -> _Traced | None:
    """Follows a tensor back to where it has no heads yet; None where other operations lie between."""
    node, rank = tensor.get_node(), tensor.get_partial_shape().rank
    kind = node.get_type_name()
    if rank.is_dynamic:
        return None
    if kind == "Multiply":
        rest, scale = _unscaled(tensor)
        found = None if rest is tensor else _traced(rest)
        return found and _changed(found, scale=found.scale * scale)
    if kind == "Transpose":
        found, order = _traced(node.input_value(0)), _constant(node.input_value(1))
        if found is None or order is None or len(order) != len(found.axes):
            return None
        return _changed(found, axes=tuple(found.axes[int(axis)] for axis in order))
    return _reshaped(tensor, node) if kind == "Reshape" else None


def _reshaped(tensor: Output, node: Node) -> _Traced | None:
    """[B, N, C] into heads, or samples and heads into one axis and back, as torch folds them for a product."""
    before = [_size(size) for size in node.input_value(0).get_partial_shape()]
    after = [_size(size) for size in tensor.get_partial_shape()]
    if len(before) == 3 and len(after) == 4:
        channels, heads, width = before[2], after[2], after[3]
        whole = bool(channels and heads and width) and channels == (heads or 0) * (width or 0)
        if whole and _keeps_rows(node, before, after) and not _folded(node.input_value(0)):
            assert heads is not None and width is not None
            return _Traced(node.input_value(0), heads, width, ("sample", "row", "head", "channel"))
    found = _traced(node.input_value(0))
    if found is None:
        return None
    if len(before) == 4 and len(after) == 3 and found.axes[:2] == ("sample", "head"):
        return _changed(found, axes=("sample head", *found.axes[2:]))
    if len(before) == 3 and len(after) == 4 and found.axes[0] == "sample head" and after[1] == found.heads:
        return _changed(found, axes=("sample", "head", *found.axes[1:]))
    return None


def _keeps_rows(node: Node, before: list[int | None], after: list[int | None]) -> bool:
    """Whether samples and rows stay apart as they were: windows of rows would become samples of their own."""
    if None not in (*before[:2], *after[:2]):
        return before[:2] == after[:2]
    return _agree(before[:2], after[:2])


def _agree(some: list[int | None], others: list[int | None]) -> bool:
    """Whether sizes are the same as far as they are known."""
    return all(None in (one, other) or one == other for one, other in zip(some, others, strict=True))


def _folded(tensor: Output) -> bool:
    """Whether an [X, Y, Z] is one of heads folded into the samples rather than a source."""
    found = _traced(tensor) if tensor.get_node().get_type_name() in ("Reshape", "Transpose", "Multiply") else None
    return found is not None and found.axes[0] == "sample head"


def _changed(found: _Traced, axes: Axes | None = None, scale: float | None = None) -> _Traced:
    return _Traced(
        found.source,
        found.heads,
        found.width,
        found.axes if axes is None else axes,
        found.scale if scale is None else scale,
    )


def _merged(weighted: Node) -> Output | None:
    """The output [B, N, C] behind [B, heads, N, width]: axes turned, then heads joined."""
    turned = _only_user(weighted.output(0))
    if turned is None or turned.get_node().get_type_name() != "Transpose":
        return None
    order, joined = _constant(turned.get_node().input_value(1)), _only_user(turned.get_node().output(0))
    if order is None or [int(axis) for axis in order] != [0, 2, 1, 3] or joined is None:
        return None
    output: Output = joined.get_node().output(0)
    whole = joined.get_node().get_type_name() == "Reshape" and output.get_partial_shape().rank.get_length() == 3
    return output if whole else None


def _unscaled(tensor: Output) -> tuple[Output, float]:
    """A tensor without the multiplication by one number that it comes from, and that number; itself and 1 if none."""
    node = tensor.get_node()
    if node.get_type_name() == "Multiply":
        for one, other in ((0, 1), (1, 0)):
            number = _constant(node.input_value(other))
            if number is not None and len(number) == 1:
                return node.input_value(one), float(number[0])
    return tensor, 1.0


def _constant(tensor: Output) -> list[float] | None:
    """The numbers of a small constant; None for another tensor, and for types whose bits alone OpenVINO shows."""
    node = tensor.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or node.get_element_type() not in READABLE:
        return None
    numbers = node.data.reshape(-1)
    return [float(number) for number in numbers] if numbers.size <= MOST_NUMBERS else None


def _only_user(output: Output) -> openvino.Input | None:
    users = list(output.get_target_inputs())
    return users[0] if len(users) == 1 else None


def _size(size: openvino.Dimension) -> int | None:
    return None if size.is_dynamic else size.get_length()
