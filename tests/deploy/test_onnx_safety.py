"""ONNX files of any origin: data only inside their folder, sizes that match, no custom operations."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from triscale.deploy.engines.onnx_runtime import OnnxSession
from triscale.deploy.onnx_safety import check_onnx
from triscale.errors import RecordError

BIAS = np.arange(4, dtype=np.float32)


def model(bias: TensorProto, nodes=(), domain: str = "") -> onnx.ModelProto:
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 4])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])
    nodes = nodes or [helper.make_node("Add", ["images", "bias"], ["logits"], domain=domain)]
    opsets = [helper.make_opsetid("", 13), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(helper.make_graph(nodes, "graph", [given], [result], [bias]), opset_imports=opsets)


def external(location: str, offset: int = 0, length: int = BIAS.nbytes) -> TensorProto:
    tensor = numpy_helper.from_array(BIAS, "bias")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


@pytest.fixture
def file(tmp_path):
    (tmp_path / "secret.bin").write_bytes(BIAS.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(bytes(16) + BIAS.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    return folder / "model.onnx"


def test_external_data_next_to_the_file_are_read(file):
    file.write_bytes(model(external("weights.bin", offset=16)).SerializeToString())
    assert OnnxSession(file)(np.zeros((1, 4), np.float32)).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (external("../secret.bin"), "refers to data outside its folder, '../secret.bin' for the tensor 'bias'"),
        (external("link.bin"), "refers to data outside its folder, 'link.bin'"),
        (external("/etc/passwd"), "refers to data outside its folder, '/etc/passwd'"),
        (external(""), "refers to data outside its folder, ''"),
        (external("other.bin"), "needs the file 'other.bin' next to it; copy both together"),
        (external("weights.bin", offset=20), "should have 16 bytes from 20 on, and the file has 32; copy both again"),
        (external("weights.bin", length=8), "should have 16 bytes from 0 on"),
        (external("weights.bin", offset=-4), "should have 16 bytes from -4 on"),
    ],
)
def test_data_outside_the_folder_or_of_another_size_are_refused(file, tensor, sentence):
    file.write_bytes(model(tensor).SerializeToString())
    with pytest.raises(RecordError) as caught:
        OnnxSession(file)
    assert sentence in str(caught.value)


def test_tensor_of_another_size_than_its_shape_is_refused(file):
    tensor = numpy_helper.from_array(BIAS, "bias")
    tensor.dims[0] = 1 << 40
    file.write_bytes(model(tensor).SerializeToString())
    with pytest.raises(RecordError, match=f"'bias' has 16 bytes; its shape needs {4 << 40}"):
        check_onnx(file)


def test_custom_operation_is_refused_by_name(file):
    file.write_bytes(model(numpy_helper.from_array(BIAS, "bias"), domain="evil").SerializeToString())
    with pytest.raises(RecordError, match=r"has the custom operation evil\.Add; only operations of ONNX"):
        check_onnx(file)


def test_custom_operation_inside_a_branch_is_refused(file):
    inner = helper.make_node("Run", ["images"], ["then"], domain="evil")
    value = helper.make_tensor_value_info("then", TensorProto.FLOAT, ["N", 4])
    branch = helper.make_graph([inner], "branch", [], [value])
    node = helper.make_node("If", ["condition"], ["logits"], then_branch=branch, else_branch=branch)
    file.write_bytes(model(numpy_helper.from_array(BIAS, "bias"), nodes=[node]).SerializeToString())
    with pytest.raises(RecordError, match=r"custom operation evil\.Run"):
        check_onnx(file)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "INT8", "FLOAT16", "BFLOAT16", "BOOL", "DOUBLE"])
@pytest.mark.parametrize("number", [1, 6, 7])
def test_sizes_of_types_are_those_of_onnx(file, kind, number):
    """The reference is what ONNX's own helper packs."""
    tensor = helper.make_tensor("bias", TensorProto.DataType.Value(kind), [number], np.ones(number))
    packed = numpy_helper.from_array(numpy_helper.to_array(tensor), "bias")
    assert packed.data_type == tensor.data_type
    file.write_bytes(model(packed).SerializeToString())
    check_onnx(file)


def test_what_onnx_runtime_refuses_is_one_sentence(file):
    file.write_bytes(model(numpy_helper.from_array(BIAS, "bias"), [helper.make_node("Nothing", ["images"], ["logits"])])
                     .SerializeToString())  # fmt: skip
    with pytest.raises(RecordError, match="is not an ONNX file that ONNX Runtime can read"):
        OnnxSession(file)


def test_file_that_cannot_be_read_is_named(file):
    with pytest.raises(RecordError, match=r"cannot read .*: No such file"):
        check_onnx(file)
