"""What goes to full TensorRT, which is not here to take it: the graph and the PTX."""

import re
import subprocess

import onnx
import pytest
import triton
from x2i.kernels.biased_attention.op import BIASED
from x2i.kernels.biased_attention.quick_plugin import split_biased
from x2i.kernels.gpu.aot import compile_pass
from x2i.kernels.gpu.quick_plugin import without_scratch
from x2i.kernels.injected_attention.op import INJECTED
from x2i.kernels.injected_attention.quick_plugin import split_injected

from tests.kernels.biased import BiasedCase
from tests.kernels.cases import Case
from tests.kernels.one_node import model

pytest.importorskip("triton", reason="Triton is not installed")


def test_an_injected_attention_becomes_three_computations() -> None:
    before = onnx.load_from_string(model(Case(20, 9, 6, 2, 24), "float16"))
    before.graph.node.append(onnx.helper.make_node("Neg", ["output"], ["negative"]))
    after = split_injected(before)
    assert not after.functions and len(before.functions) == 1
    first, axes, peaks, second, rest = after.graph.node
    assert (first.domain, first.op_type, second.domain, second.op_type) == (
        *("x2i", "InjectedAttentionGlobal"),
        *("x2i", "InjectedAttentionLocal"),
    )
    attended, columns = first.output
    assert list(first.input) == ["query", "key", "value", "token_index"]
    assert (peaks.op_type, list(peaks.input)) == ("ReduceMax", [columns, *axes.output])
    assert onnx.helper.get_attribute_value(axes.attribute[0]) == [1, 2]
    inputs = ["query", "local_key", "local_value", "token_index", "strength", attended, columns, peaks.output[0]]
    assert list(second.input) == inputs and list(second.output) == ["output"]
    assert rest == before.graph.node[1]
    for node in (first, second):
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert given.pop("scale") == pytest.approx([24**-0.5])
        assert given == {"num_heads": 2, "plugin_namespace": b"x2i", "plugin_version": b"1"}


def test_a_biased_attention_becomes_two() -> None:
    before = onnx.load_from_string(BiasedCase(2, 20, 9, 2, 24).model("float16"))
    after = split_biased(before)
    assert not after.functions
    first, second = after.graph.node
    (parts,) = first.output
    assert (first.op_type, list(first.input)) == (
        "BiasedAttentionStatistics",
        ["query", "key", "gain_max", "gain_deviation"],
    )
    assert (second.op_type, list(second.output)) == ("BiasedAttentionRaised", ["output"])
    assert list(second.input) == [*BIASED.inputs, parts]


@pytest.mark.parametrize(
    ("op", "kernel", "fixed", "handed", "kinds"),
    [
        (INJECTED, "global_pass", {"peaks": None}, (), "****iii**"),
        (INJECTED, "local_pass", {}, ("attended",), "********iii*"),
        (BIASED, "statistics_pass", {}, (), "****iii*"),
        (BIASED, "raised_pass", {}, (), "********iii*"),
    ],
)
def test_the_ptx_has_no_argument_that_is_not_passed(op, kernel, fixed, handed, kinds, tmp_path) -> None:
    made = compile_pass(op, kernel, "sm_89", "float16", 40, {"scale": 0.158, **fixed}, handed)
    ptx = without_scratch(made.ptx)
    assert len(re.findall(r"^\s*\.param ", ptx, re.MULTILINE)) == len(made.cubin.arguments)
    assert "".join(kind[0] for _, kind in made.cubin.arguments) == kinds, (
        "TensorRT passes inputs, whole numbers, outputs"
    )
    (tmp_path / "it.ptx").write_text(ptx)
    command = [triton.knobs.nvidia.ptxas.path, "-arch=sm_89", "-o", "it.cubin", "it.ptx"]
    subprocess.run(command, cwd=tmp_path, check=True)
