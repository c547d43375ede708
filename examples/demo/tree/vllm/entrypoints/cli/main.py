"""The command `vllm` (`python -m vllm.entrypoints.cli.main`): `serve` and `bench serve|throughput|latency`."""

import sys

from vllm import __version__
from vllm.engine.arg_utils import FlexibleArgumentParser


def _parser():
    from vllm.benchmarks import latency, serve, throughput
    from vllm.entrypoints.openai.api_server import add_server_args, run_server

    parser = FlexibleArgumentParser(prog="vllm", description="SIMULATED vLLM: no model runs here")
    parser.add_argument("-v", "--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="subparser", required=True)
    server = add_server_args(commands.add_parser("serve"), model_option=False)
    server.add_argument("model_tag", nargs="?")
    server.add_argument("--model", default="facebook/opt-125m")
    server.set_defaults(run=run_server)
    benches = commands.add_parser("bench").add_subparsers(dest="bench_type", required=True)
    for name, module in (("serve", serve), ("throughput", throughput), ("latency", latency)):
        module.add_cli_args(benches.add_parser(name)).set_defaults(run=module.main)
    return parser


def main(argv=None):
    """Run the command line. Exits 2 for what it does not know."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if getattr(args, "model_tag", None):
        args.model = args.model_tag
    run = args.run
    del args.run
    run(args)


if __name__ == "__main__":
    main()
