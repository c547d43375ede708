"""isobench: long campaigns of containerized vLLM benchmarks, and the truth about every number."""

__version__ = "0.1.0"
