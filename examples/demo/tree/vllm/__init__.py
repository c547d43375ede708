"""SIMULATED vLLM: it speaks vLLM's command lines and log lines, and runs no model.

Every duration comes from constants in this tree. No number that it produces says anything about vLLM.
"""

__version__ = "0.0.0+simulated"
