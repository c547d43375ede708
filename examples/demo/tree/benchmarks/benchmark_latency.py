"""SIMULATED: the old name of `vllm bench latency`."""

from vllm.benchmarks import latency
from vllm.engine.arg_utils import FlexibleArgumentParser

if __name__ == "__main__":
    latency.main(latency.add_cli_args(FlexibleArgumentParser(description="SIMULATED vLLM benchmark")).parse_args())
