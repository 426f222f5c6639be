"""What an exported file may hold: a plain graph from images to one map, without loops, other files or custom parts."""

from collections.abc import Iterator
from typing import Any

import numpy as np

Shape = tuple[int | None, ...]  # None: free
OWN = ("", "ai.onnx")  # the domains of ONNX itself
PIXELS: Shape = (None, None, None, 3)
NO_PATH = ("If", "Loop", "TensorIterator", "ReadValue", "Assign")  # of OpenVINO: graphs in graphs, and memory


def open_onnx(data: bytes, threads: int) -> tuple[Any, str | None]:
    """ONNX Runtime's session of a file, and the text under its key `heteroseg`.

    Another kind of graph raises ValueError.
    """
    import onnx
    import onnxruntime

    model = onnx.load_model_from_string(data)
    if fault := next(_faults_of_onnx(model), None):
        raise ValueError(fault)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is wrong is told as an error
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    ends = [(e.name, e.type, _shape(e.shape)) for e in (*session.get_inputs(), *session.get_outputs())]
    kinds = {kind for _, kind, _ in ends[1:]}
    if len(session.get_inputs()) != 1 or ends[0] != ("images", "tensor(uint8)", PIXELS) or kinds != {"tensor(float)"}:
        raise ValueError(f"it does not lead from images to maps of numbers, but has {ends!s:.200}")
    return session, session.get_modelmeta().custom_metadata_map.get("heteroseg")


def _shape(sizes: list[Any]) -> Shape:
    return tuple(size if isinstance(size, int) else None for size in sizes)


def _faults_of_onnx(model: Any) -> Iterator[str]:
    """What is in an ONNX file besides a plain graph."""
    graph, external = model.graph, 1  # TensorProto.EXTERNAL
    tensors = list(graph.initializer)
    yield from (f"functions of its own, such as {f.name!r:.80}" for f in model.functions)
    yield from ("sparse tensors" for _ in graph.sparse_initializer)
    for node in graph.node:
        if node.domain not in OWN:
            yield f"the operation {node.op_type!r:.80} of the domain {node.domain!r:.80}"
        for a in node.attribute:
            if a.HasField("g") or a.graphs:
                yield f"the operation {node.op_type!r:.80} with a graph inside, which may not end"
            if a.HasField("sparse_tensor") or a.sparse_tensors:
                yield "sparse tensors"
            tensors += [*([a.t] if a.HasField("t") else []), *a.tensors]
    for tensor in tensors:
        if tensor.data_location == external or tensor.external_data:
            yield f"the tensor {tensor.name!r:.80} in another file"


def open_openvino(core: Any, path: Any) -> tuple[Any, str | None]:
    """As `open_onnx`: OpenVINO's graph of an .xml with its .bin."""
    graph = core.read_model(path)
    for operation in graph.get_ops():
        kind = operation.get_type_name()
        if kind in NO_PATH or not operation.get_type_info().version_id.startswith("opset"):
            raise ValueError(f"the operation {kind!r:.80}")
        if kind == "Constant" and operation.data.dtype.kind == "f" and not np.isfinite(operation.data).all():
            raise ValueError(f"numbers in {operation.friendly_name!r:.80} that are not finite")
    inputs, outputs = graph.inputs, graph.outputs
    ends = [(e.element_type.to_string(), _free(e)) for e in (*inputs, *outputs)]
    if len(inputs) != 1 or ends[0] != ("u8", PIXELS) or {kind for kind, _ in ends[1:]} != {"f32"}:
        raise ValueError(f"it does not lead from images to maps of numbers, but has {ends!s:.200}")
    text = graph.get_rt_info("heteroseg").value if graph.has_rt_info("heteroseg") else None
    return graph, text


def _free(end: Any) -> Shape:
    rank = end.partial_shape
    return tuple(None if size.is_dynamic else size.get_length() for size in rank) if rank.rank.is_static else ()
