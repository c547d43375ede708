"""The rules of what goes wrong by itself: the upper part of the table in `rules`.

The patterns are the words of vLLM 0.2 - 0.33, its clients, huggingface_hub, torch, docker, git, patch, the kernel and
NVIDIA's driver, as their sources print them.
"""

from __future__ import annotations

from typing import Final

from isobench_tui.results import clues
from isobench_tui.results.rule import MACHINE, ONCE, PATCH, TWICE, Rule, anywhere, cause, nearest

CAUSES: Final[tuple[Rule, ...]] = (
    # ------------------------------------------------------------- the machine: true whatever else failed after it
    Rule(
        "disk_full",
        "infra",
        "Free space on the file system that the line names; the queue goes on by itself when there is some.",
        MACHINE,
        (anywhere(r"[Nn]o space left on device", r"\[Errno 28\]", r"Disk quota exceeded"),),
    ),
    Rule(
        "gpu_lost",
        "infra",
        "Look at `nvidia-smi` and `dmesg`: the GPU or the container's access to it is gone, and only the host can "
        "bring it back.",
        MACHINE,
        (
            anywhere(
                r"Failed to initialize NVML: Unknown Error",
                r"NVRM: Xid",
                r"GPU is lost",
                r"fallen off the bus",
                r"[Uu]ncorrectable ECC error",
                r"Unable to determine the device handle for",
            ),
            cause(r"CUDA error: unknown error", r"No CUDA GPUs are available", r"no CUDA-capable device is detected"),
        ),
    ),
    Rule(
        "driver_mismatch",
        "infra",
        "Bring the host's NVIDIA driver and container toolkit in line with the image's CUDA, or use another image.",
        MACHINE,
        (
            anywhere(
                r"could not select device driver",
                r"Driver/library version mismatch",
                r"CUDA driver version is insufficient",
                r"NVIDIA driver on your system is too old",
                r"unsupported display driver / cuda driver combination",
                r"forward compatibility was attempted on non supported HW",
                r"nvidia-container-cli: requirement error",
            ),
        ),
    ),
    Rule(
        "host_oom",
        "capacity",
        "Give the container more memory (`[container] memory`), or a workload that needs less of the host's.",
        TWICE,
        (
            anywhere(r"Out of memory: Killed process"),
            cause(
                r"can't allocate memory",
                r"Cannot allocate memory",
                r"(?:^|\s)MemoryError\b",
                r"Available memory on node \d+ .*is less than",
                r"^Killed$",
            ),
        ),
    ),
    # ------------------------------------------------------------------------------------------------- the patch
    Rule(
        "patch_empty",
        "undetermined",
        "Skip the job, or give it a patch that changes a source file: an empty one measures the baseline.",
        PATCH,
        (anywhere(r"No valid patches in input", r"Only garbage was found in the patch input", check=clues.untold),),
    ),
    Rule(
        "patch_not_applied",
        "undetermined",
        "Compare the patch with the image's tree: it was made against another base than this image.",
        PATCH,
        (
            anywhere(
                r"Patch dry-run failed",
                r"AGENT_PATCH_APPLIED_FALLBACK",
                r"\d+ out of \d+ hunks? FAILED",
                r"can't find file to patch",
                r"^error: patch failed: ",
                r"patch does not apply",
                check=clues.untold,
            ),
        ),
    ),
    Rule(
        "patch_not_compiled",
        "undetermined",
        "Build an image with the patched sources: what a patch changes in compiled code has no effect in this one.",
        PATCH,
    ),
    # ------------------------------------------------------------------------------- the command and its model
    Rule(
        "quoting",
        "harness",
        "Mend the quotes of perf_command: its words reached the program with quotes in them, or cut in two.",
        ONCE,
        (
            cause(
                r"Repo id must .*''",
                r"''\[?\w+\]?''",
                r"No closing quotation",
                r"unexpected EOF while looking for matching",
                r"Value \S+ cannot be converted to <function loads",
            ),
        ),
    ),
    Rule(
        "gated_auth",
        "config",
        "Accept the model's terms at its hub with the account of HF_TOKEN, and name HF_TOKEN in `[model] secrets`.",
        ONCE,
        (
            cause(
                r"gated repo",
                r"GatedRepoError",
                r"\b40[13] Client Error",
                r"Access to model .* is restricted",
                r"Invalid (?:user|username or) (?:token|password)",
            ),
        ),
    ),
    Rule(
        "model_not_found",
        "config",
        "Check the model's name, and that all its files are in the cache that the container sees.",
        ONCE,
        (
            cause(
                r"not a valid model identifier",
                r"Repository Not Found for url",
                r"RepositoryNotFoundError",
                r"Repo id must ",
                r"Invalid repository ID or local directory",
                r"LocalEntryNotFoundError",
                r"outgoing traffic has been disabled",
                r"couldn't connect to 'https://huggingface\.co'",
                r"Cannot find any model weights",
                r"SafetensorError",
                r"does not appear to have a file named",
            ),
        ),
    ),
    Rule(
        "model_unsupported",
        "config",
        "Use an image whose vLLM and transformers know the model, or a `[[model_overrides]]`, the same in every arm.",
        ONCE,
        (
            cause(
                r"Unknown RoPE scaling type",
                r"`?rope_scaling`? must (?:be a dictionary with|have)",
                r"Missing required keys in `rope",
                r"Model architectures \[.*\] (?:are not supported|failed to be inspected)",
                r"does not recognize this architecture",
                r"has no vLLM implementation",
                r"trust_remote_code",
                r"Couldn't instantiate the backend tokenizer",
                r"Unknown quantization method",
                r"exceeds dimension size",
            ),
        ),
    ),
    Rule(
        "bench_script_missing",
        "harness",
        "Use an image that carries vLLM's `benchmarks/` folder, or a perf_command with `vllm bench`.",
        ONCE,
        (cause(r"can't open file '[^']*\.py'", where=("client",)),),
    ),
    Rule(
        "bench_script_deprecated",
        "harness",
        "Write perf_command with `vllm bench serve|throughput|latency`: this image's script only says that it moved.",
        ONCE,
        (anywhere(r"DEPRECATED: This script has been moved"),),
    ),
    Rule(
        "bench_arg_incompatible",
        "harness",
        "Change the option that the line names: this image's version of the command does not know it.",
        ONCE,
        (
            cause(
                r"error: unrecognized arguments",
                r"error: argument \S+: invalid choice",
                r"error: the following arguments are required",
                r"error: ambiguous option",
                r"error: argument \S+: (?:expected|invalid \w+ value|not allowed)",
            ),
        ),
    ),
    Rule(
        "multi_gpu_required",
        "capacity",
        "Give the lane as many GPUs as the task's parallel sizes multiply to, or skip the task on this host.",
        ONCE,
        (
            cause(
                r"(?i:(?:tensor parallel|world) size \(\d+\).*(?:greater|larger) than the .{0,10}number of)",
                r"(?i:number of required GPUs exceeds)",
                r"invalid device ordinal",
            ),
        ),
    ),
    Rule(
        "port_in_use",
        "infra",
        "Look who listens on that port (`ss -ltnp`): something outside of this campaign holds it.",
        TWICE,
        (cause(r"\[Errno 98\]", r"[Aa]ddress already in use", r"port is already allocated"),),
    ),
    Rule(
        "gpu_busy_leaked",
        "infra",
        "Find the process that holds the GPU (`nvidia-smi`) and end it; the queue goes on by itself when it is gone.",
        MACHINE,
        (
            cause(
                r"[Ff]ree memory on device .*?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\).* is less than",
                check=clues.little_free,
            ),
            cause(r"out of memory.* total capacity of (?P<total>[\d.]+) GiB", check=clues.foreign_memory),
        ),
    ),
    Rule(
        "harness_misconfig",
        "harness",
        "Change the server's options in the campaign (`[server] args`, the task's `server_args`, perf_command).",
        ONCE,
        (
            cause(r"max_model_len \(\d+\) is greater than the derived", check=clues.given("--max-model-len")),
            cause(
                r"is larger than the maximum number of tokens that can be stored in KV cache",
                r"To serve at least one request with the model's max seq len",
                r"[Ff]ree memory on device .* is less than desired GPU memory utilization",
                r"Load format `\w+` is not supported",
                r"Failed to infer device type",
                r"(?i:bfloat16 is only supported on GPUs)",
                r"insufficient shared memory \(shm\)",
                r"FileNotFoundError: .*(?:(?i:sharegpt|sonnet|dataset)|\.jsonl?\b)",
            ),
        ),
    ),
    Rule(
        "gpu_oom_capacity",
        "capacity",
        "Use a GPU with more memory, a smaller model, or several GPUs: this one does not fit.",
        ONCE,
        (
            cause(
                r"(?:CUDA|HIP|GPU) out of memory",
                r"OutOfMemoryError",
                r"CUDA error: out of memory",
                r"No available memory for the cache blocks",
                r"CUBLAS_STATUS_ALLOC_FAILED",
            ),
        ),
    ),
    Rule(
        "patch_crash",
        "undetermined",
        "Read the traceback: the code that the patch changed raised it; nothing is wrong with the host.",
        PATCH,
        (
            cause(r"", check=clues.in_the_patch),
            cause(
                r"\b(?:Syntax|Indentation|Name|UnboundLocal)Error: ",
                r"No module named '(?:vllm|sglang)\.",
                r"cannot import name '\w+' from (?:partially initialized module )?'(?:vllm|sglang)\b",
                check=clues.perhaps_patched,
            ),
        ),
    ),
    Rule(
        "env_broken",
        "image",
        "Mend the image, or install what it lacks with `[[setup]]`, the same in every arm of the task.",
        ONCE,
        (
            nearest(
                r"\b(?:ModuleNotFound|Import)Error: ",
                r"Failed to import .* because of the following error",
                r"PackageNotFoundError",
                r"cannot open shared object file",
                r"undefined symbol",
                r"version `GLIBC\S+' not found",
                r"dtype size changed",
                r"compiled using NumPy 1",
                r"no kernel image is available",
                r"has no attribute '\w+' .*site-packages",
                r": command not found",
            ),
            cause(r"\b(?:Syntax|Indentation|Name)Error: ", check=clues.unpatched),
        ),
    ),
    # ----------------------------------------------------------------------------- the engine and its registry
    Rule(
        "image_missing",
        "infra",
        "Check the image's name and tag, and that this host may read it: neither engine nor registry has it.",
        ONCE,
        (
            cause(
                r"manifest unknown",
                r"manifest for \S+ not found",
                r"pull access denied",
                r"repository does not exist",
                r"[Nn]o such image",
            ),
        ),
    ),
    Rule(
        "pull_failed",
        "infra",
        "Check the network and the registry's limits; the queue goes on by itself when the registry answers.",
        MACHINE,
        (
            cause(
                r"toomanyrequests",
                r"\b(?:429|50[0234]) (?:Client|Server) Error",
                r"(?:docker|daemon): .*(?:connection reset|TLS handshake|i/o timeout|unexpected EOF|no such host)",
                r"error pulling image",
                r"failed to copy: httpReadSeeker",
            ),
        ),
    ),
    Rule(
        "engine_error",
        "infra",
        "Look at the container engine (`systemctl status docker`, its log); the queue goes on when it answers.",
        MACHINE,
        (
            cause(
                r"Cannot connect to the Docker daemon", r"[Ee]rror response from daemon", r"OCI runtime create failed"
            ),
        ),
    ),
)
