"""Launching a PTX artifact on an NVIDIA GPU, through cuda-python.

Nothing of CUDA is imported before the first launch, so compiling never needs a
driver. Modules are loaded once per context and artifact.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

from tilec.backends.artifact import Artifact, Param, TensorMap
from tilec.ir.errors import ResourceError, TilecError, TilecTypeError, TilecValueError, UnsupportedError
from tilec.ir.types import DType
from tilec.runtime.arrays import Described, describe, device_of
from tilec.runtime.tensor_map import TensorMapFields, tensor_map_fields

ELSEWHERE = 'run on this machine with backend="cpu", or install tilec[cuda] on one with an NVIDIA driver'
GRID_LIMITS = (2**31 - 1, 65535, 65535)

_functions: dict[tuple[int, Artifact], Any] = {}
_lock = threading.Lock()


def unavailable() -> str | None:
    """Why there is no CUDA here, or None where there is."""
    try:
        driver()
    except UnsupportedError as error:
        return error.message
    return None


def driver() -> Any:
    """cuda.bindings.driver, initialised. Raises UnsupportedError without a driver or a GPU."""
    try:
        from cuda.bindings import driver as bindings
    except ImportError:
        raise UnsupportedError("U601", "cuda-python is not installed", help=ELSEWHERE) from None
    try:
        _call(bindings, bindings.cuInit(0))
        count = _call(bindings, bindings.cuDeviceGetCount())
    except (RuntimeError, OSError, TilecError) as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedError("U601", f"no NVIDIA driver: {reason}", help=ELSEWHERE) from None
    if count == 0:
        raise UnsupportedError("U601", "no NVIDIA GPU", help=ELSEWHERE)
    return bindings


def launch(artifact: Artifact, grid: Sequence[int], args: Sequence[Any], stream: Any = None) -> None:
    """Start the kernel on CUDA arrays (anything with DLPack or an array interface) and numbers.

    ``stream`` is a handle, or an object of torch or cupy; None is the default
    stream. Returns before the kernel has finished, as CUDA does.
    """
    full = _checked_grid(grid)
    if 0 in full:
        return
    if not artifact.fits(full):
        raise TilecValueError("V606", f"grid {full} is not one of clusters of {artifact.cluster}",
                              help="compile with cluster=1")  # fmt: skip
    bindings = driver()
    described = [describe(a) if _is_tensor(artifact, i) else a for i, a in enumerate(args)]
    _check_devices(artifact, args)
    function = _function(bindings, artifact)
    with _workspace(bindings, artifact.workspace * prod(full), _handle(stream)) as workspace:
        buffers = [_buffer(bindings, p, described, workspace) for p in artifact.params]
        pointers = (ctypes.c_void_p * max(len(buffers), 1))(*(address for _, address in buffers))
        result = bindings.cuLaunchKernel(
            function, *full, artifact.threads, 1, 1, artifact.smem_bytes, _handle(stream),
            ctypes.addressof(pointers), 0,
        )  # fmt: skip
        _call(bindings, result)


@contextmanager
def _workspace(bindings: Any, size: int, stream: int) -> Iterator[int]:
    """The address of memory for one launch; it is given back, in the order of the stream, after it."""
    if not size:
        yield 0
        return
    address = _call(bindings, bindings.cuMemAllocAsync(size, stream))
    try:
        yield int(address)
    finally:
        _call(bindings, bindings.cuMemFreeAsync(address, stream))


def _checked_grid(grid: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*(int(n) for n in grid), *(1,) * (3 - len(grid)))
    for n, limit in zip((x, y, z), GRID_LIMITS, strict=True):
        if not 0 <= n <= limit:
            raise TilecValueError("V603", f"grid {tuple(grid)}: an extent is not 0 to {limit}",
                                  help="put the largest extent first, or loop inside the kernel")  # fmt: skip
    return x, y, z


def _is_tensor(artifact: Artifact, index: int) -> bool:
    return any(p.arg == index and p.kind != "scalar" for p in artifact.params)


def _check_devices(artifact: Artifact, args: Sequence[Any]) -> None:
    for i, x in enumerate(args):
        if _is_tensor(artifact, i) and device_of(x) != "cuda":
            raise TilecTypeError("T602", f"argument {i} is in CPU memory",
                                 help='move it to the GPU, or launch with backend="cpu"')  # fmt: skip


def _buffer(bindings: Any, param: Param, args: Sequence[Any], workspace: int) -> tuple[Any, int]:
    """The bytes of one entry parameter: an object that owns them, and their address."""
    if param.kind == "workspace":
        held = ctypes.c_uint64(workspace)
        return held, ctypes.addressof(held)
    if param.kind == "tensor_map":
        if param.map is None:
            raise TilecValueError("V604", f"parameter of argument {param.arg} has no tensor map")
        encoded = _encode(bindings, tensor_map_fields(param.map, args[param.arg]), param.map)
        return encoded, int(encoded.getPtr())
    data = parameter_bytes(param, args[param.arg])
    owner = ctypes.create_string_buffer(data, len(data))
    return owner, ctypes.addressof(owner)


def parameter_bytes(param: Param, arg: Any) -> bytes:
    """The little-endian bytes of a pointer, extent, stride or scalar parameter."""
    if param.kind == "scalar":
        if param.dtype is None:
            raise TilecValueError("V604", f"parameter of argument {param.arg} has no dtype")
        return _scalar_bytes(arg, param.dtype)
    array: Described = arg
    if param.kind == "pointer":
        return array.address.to_bytes(8, "little")
    if param.kind == "dim":
        return array.shape[param.axis].to_bytes(4, "little", signed=True)
    return array.strides[param.axis].to_bytes(8, "little", signed=True)


def _scalar_bytes(value: Any, dtype: DType) -> bytes:
    try:
        return bytes(dtype.np.type(value).tobytes())
    except (TypeError, ValueError, OverflowError):
        raise TilecTypeError("T603", f"{value!r} is no {dtype}") from None


def _encode(bindings: Any, fields: TensorMapFields, map: TensorMap) -> Any:
    wide, narrow = bindings.cuuint64_t, bindings.cuuint32_t
    result = bindings.cuTensorMapEncodeTiled(
        getattr(bindings.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{fields.data_type}"),
        len(fields.sizes),
        fields.address,
        [wide(n) for n in fields.sizes],
        [wide(n) for n in fields.strides],
        [narrow(n) for n in fields.box],
        [narrow(1)] * len(fields.sizes),
        bindings.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        getattr(bindings.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{fields.swizzle.upper()}"),
        bindings.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
        bindings.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    return _call(bindings, result)


def _function(bindings: Any, artifact: Artifact) -> Any:
    context = _context(bindings)
    with _lock:
        key = (int(context), artifact)
        if key not in _functions:
            _check_target(bindings, artifact)
            _functions[key] = _load(bindings, artifact)
        return _functions[key]


def _context(bindings: Any) -> Any:
    """The calling thread's context; the primary one of device 0 if it has none."""
    context = _call(bindings, bindings.cuCtxGetCurrent())
    if int(context) == 0:
        device = _call(bindings, bindings.cuDeviceGet(0))
        context = _call(bindings, bindings.cuDevicePrimaryCtxRetain(device))
        _call(bindings, bindings.cuCtxSetCurrent(context))
    return context


def _check_target(bindings: Any, artifact: Artifact) -> None:
    names = bindings.CUdevice_attribute
    device = _call(bindings, bindings.cuCtxGetDevice())
    major, minor = (
        _call(bindings, bindings.cuDeviceGetAttribute(a, device))
        for a in (
            names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    if artifact.target.rstrip("af") != f"sm_{major}{minor}":
        raise UnsupportedError("U603", f"compiled for {artifact.target}, this GPU is sm_{major}{minor}",
                               help='launch with backend="cpu"')  # fmt: skip


def _load(bindings: Any, artifact: Artifact) -> Any:
    module = _call(bindings, bindings.cuModuleLoadData(artifact.text.encode() + b"\0"))
    function = _call(bindings, bindings.cuModuleGetFunction(module, artifact.entry.encode()))
    attribute = bindings.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    _call(bindings, bindings.cuFuncSetAttribute(function, attribute, artifact.smem_bytes))
    return function


def _handle(stream: Any) -> int:
    if stream is None:
        return 0
    for name in ("cuda_stream", "ptr"):  # torch, cupy
        if hasattr(stream, name):
            return int(getattr(stream, name))
    return int(stream)


def _call(bindings: Any, result: tuple[Any, ...]) -> Any:
    """The value of a driver call; its error code as a ResourceError with CUDA's name for it."""
    status, *values = result
    if status != bindings.CUresult.CUDA_SUCCESS:
        raise ResourceError("R601", f"the CUDA driver answers {status.name}", help=_MEND.get(status.name, ""))
    return values[0] if values else None


_MEND = {
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "update the NVIDIA driver",
    "CUDA_ERROR_INVALID_VALUE": "the kernel may ask for more shared memory or threads than the GPU has",
    "CUDA_ERROR_OUT_OF_MEMORY": "free memory on the GPU",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "an earlier kernel on this GPU read or wrote outside its memory",
}
