"""PTX as data: instruction table, module, text, and the builder that backends emit through."""

from tilec.ir.ptx.builder import Builder, addr, tensor_addr
from tilec.ir.ptx.module import Module
from tilec.ir.ptx.parser import parse
from tilec.ir.ptx.printer import print_module

__all__ = ["Builder", "Module", "addr", "parse", "print_module", "tensor_addr"]
