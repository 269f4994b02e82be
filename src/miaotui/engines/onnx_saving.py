"""An ONNX file with its weights in a file beside it: protobuf holds no more than 2 GiB in one."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from miaotui.paths import whole_file, write_whole

if TYPE_CHECKING:
    import onnx

ROOM_BYTES = 2**31 - 2**24
"""What weights may take in one file together with their graph: protobuf's limit, less a graph."""
_SMALLEST_BYTES = 1024
"""Constants smaller than that stay in the graph, where libraries look at them to infer shapes."""
_ALIGNMENT_BYTES = 4096
"""Where a tensor may begin, so that a file can be mapped and its weights used as they lie there."""


def write_onnx(model: "onnx.ModelProto", path: Path, inline_bytes: int = 0) -> None:
    """Writes `path`, and its weights beside it (`weights_of`) where they take more than
    `inline_bytes`. What was written apart is no longer in `model`."""
    large = [tensor for tensor in model.graph.initializer if _is_large(tensor)]
    if sum(len(tensor.raw_data) for tensor in large) > inline_bytes:
        weights = weights_of(path)
        with whole_file(weights) as draft, draft.open("wb") as opened:
            for tensor in large:
                _move_(tensor, opened, weights.name)
    write_whole(path, model.SerializeToString())


def weights_of(path: Path) -> Path:
    """Where the weights of an ONNX file lie, if not in itself."""
    return path.with_name(f"{path.name}.data")


def files_of(path: Path) -> list[Path]:
    """The ONNX file and that of its weights, if there is one."""
    return [file for file in (path, weights_of(path)) if file.exists()]


def _is_large(tensor: "onnx.TensorProto") -> bool:
    return tensor.HasField("raw_data") and len(tensor.raw_data) >= _SMALLEST_BYTES


def _move_(tensor: "onnx.TensorProto", opened: BinaryIO, location: str) -> None:
    from onnx.external_data_helper import set_external_data

    opened.write(b"\0" * (-opened.tell() % _ALIGNMENT_BYTES))
    offset = opened.tell()
    set_external_data(tensor, location, offset, opened.write(tensor.raw_data))
    tensor.ClearField("raw_data")
