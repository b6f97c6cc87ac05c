"""What goes to full TensorRT, which is not here to take it: the graph and the PTX."""

import re
import subprocess

import onnx
import pytest
import triton
from x2i.kernels.injected_attention.aot import compile_pass
from x2i.kernels.injected_attention.quick_plugin import split_nodes, without_scratch

from tests.kernels.cases import Case
from tests.kernels.one_node import model

pytest.importorskip("triton", reason="Triton is not installed")


def test_a_node_becomes_three() -> None:
    before = onnx.load_from_string(model(Case(20, 9, 6, 2, 24), "float16"))
    before.graph.node.append(onnx.helper.make_node("Neg", ["output"], ["negative"]))
    after = split_nodes(before)
    assert not after.functions and len(before.functions) == 1
    first, peaks, second, rest = after.graph.node
    assert (first.domain, first.op_type, second.domain, second.op_type) == (
        *("x2i", "InjectedAttentionGlobal"),
        *("x2i", "InjectedAttentionLocal"),
    )
    attended, columns = first.output
    assert list(first.input) == ["query", "key", "value", "token_index"]
    assert (peaks.op_type, peaks.input[0], peaks.input[1]) == ("ReduceMax", columns, after.graph.initializer[0].name)
    assert list(onnx.numpy_helper.to_array(after.graph.initializer[0])) == [1, 2]
    inputs = ["query", "local_key", "local_value", "token_index", "strength", attended, columns, peaks.output[0]]
    assert list(second.input) == inputs and list(second.output) == ["output"]
    assert rest == before.graph.node[1]
    for node in (first, second):
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert given.pop("scale") == pytest.approx([24**-0.5])
        assert given == {"num_heads": 2, "plugin_namespace": b"x2i", "plugin_version": b"1"}


@pytest.mark.parametrize(("kernel", "fixed"), [("global_pass", {"peaks": None}), ("local_pass", {})])
def test_the_ptx_has_no_argument_that_is_not_passed(kernel: str, fixed: dict[str, None], tmp_path) -> None:
    made = compile_pass(kernel, "sm_89", "float16", 40, in_place=False, scale=0.158, **fixed)
    ptx = without_scratch(made.ptx)
    assert len(re.findall(r"^\s*\.param ", ptx, re.MULTILINE)) == len(made.cubin.arguments)
    kinds = [kind[0] for _, kind in made.cubin.arguments]
    assert "".join(kinds) in ("****iii**", "********iii*"), "TensorRT passes inputs, whole numbers, outputs"
    (tmp_path / "it.ptx").write_text(ptx)
    command = [triton.knobs.nvidia.ptxas.path, "-arch=sm_89", "-o", "it.cubin", "it.ptx"]
    subprocess.run(command, cwd=tmp_path, check=True)
