"""SIMULATED: the old name of `vllm bench throughput`."""

from vllm.benchmarks import throughput
from vllm.engine.arg_utils import FlexibleArgumentParser

if __name__ == "__main__":
    throughput.main(
        throughput.add_cli_args(FlexibleArgumentParser(description="SIMULATED vLLM benchmark")).parse_args()
    )
