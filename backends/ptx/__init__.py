"""The PTX backend: SCHEDULED kernel -> Artifact."""

from tilec.backends.ptx.compile import compile_kernel

__all__ = ["compile_kernel"]
