"""isobench: run long campaigns of containerized vLLM benchmarks and tell the operator the truth about every number."""

__version__ = "0.1.0"
