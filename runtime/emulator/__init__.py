"""A functional PTX emulator: runs kernels on the host and reports what they do wrong."""

from tilec.runtime.emulator.launch import Outcome, launch, run_ptx
from tilec.runtime.emulator.report import EmulatorError, Report
from tilec.runtime.emulator.spaces import GlobalMemory
from tilec.runtime.emulator.traffic import Traffic

__all__ = ["EmulatorError", "GlobalMemory", "Outcome", "Report", "Traffic", "launch", "run_ptx"]
