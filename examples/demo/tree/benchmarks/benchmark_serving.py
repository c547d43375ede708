"""SIMULATED: the old name of `vllm bench serve`."""

from vllm.benchmarks import serve
from vllm.engine.arg_utils import FlexibleArgumentParser

if __name__ == "__main__":
    serve.main(serve.add_cli_args(FlexibleArgumentParser(description="SIMULATED vLLM benchmark")).parse_args())
