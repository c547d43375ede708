"""Which options vLLM's clients and its server know, over all releases from 0.2 to 0.33.

Source: the argument namespaces that the clients print (0.2.0 to 0.32.0), the clients' own parsers (0.6.2 to 0.33.0),
and those of `vllm/engine/arg_utils.py` and `vllm/entrypoints/openai/cli_args.py` (0.2.0 to 0.33.0). An option that
neither table has stays with the client, with a finding.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset("--" + word for word in text.split())


SERVE_CLIENT = _names("""
    append-result asr-max-audio-len-sec asr-min-audio-len-sec backend base-url best-of bfcl-categories
    blazedit-max-distance blazedit-min-distance burstiness chat-template-kwargs common-prefix-len
    custom-ensure-client-side-data custom-output-len custom-skip-chat-template dataset dataset-name dataset-path
    disable-shuffle disable-tqdm enable-multimodal-chat endpoint endpoint-type extra-body frequency-penalty goodput
    header hf-name hf-output-len hf-split hf-subset host ignore-eos input input-len insecure label log-config-file
    logprobs lora-assignment lora-modules max-concurrency metadata metric-percentiles min-p model no-oversample
    no-reranker no-stream num-prompts num-warmups output output-len percentile-metrics plot-dataset-stats
    plot-timeline port prefix-repetition-num-prefixes prefix-repetition-output-len prefix-repetition-prefix-len
    prefix-repetition-suffix-len presence-penalty probe-request-rate profile protocol ramp-up-end-rps
    ramp-up-start-rps ramp-up-strategy random-batch-size random-input-len random-mm-base-items-per-request
    random-mm-bucket-config random-mm-limit-mm-per-prompt random-mm-num-mm-items-range-ratio random-output-len
    random-prefix-len random-range-ratio range-ratio ready-check-timeout-sec repetition-penalty request-id-prefix
    request-rate result-dir result-filename save-detailed save-result seed self-timed served-model-name
    sharegpt-output-len skip-chat-template skip-tokenizer-init sonnet-input-len sonnet-output-len sonnet-prefix-len
    spec-bench-category spec-bench-output-len speed-bench-category speed-bench-dataset-subset speed-bench-output-len
    tag temperature timed-trace-chunk-hash-size timed-trace-label-hash-ids timed-trace-label-input-length
    timed-trace-label-output-length timed-trace-label-timestamp timed-trace-sec-multiplier timeline-itl-thresholds
    tokenizer tokenizer-mode top-k top-p trust-remote-code use-beam-search
""")
"""`benchmark_serving.py` and `vllm bench serve`."""

BOTH = _names("skip-tokenizer-init tokenizer-mode trust-remote-code")
"""Options of the serve client that the server needs as well."""

ENGINE = _names("""
    additional-config aggregate-engine-logging all2all-backend allow-deprecated-quantization
    allowed-local-media-path allowed-media-domains api-process-count api-process-rank async-scheduling
    attention-backend attention-config aux-output-config block-size calculate-kv-scales chat-template-text-format
    code-revision collect-detailed-traces compilation-config config config-format convert
    cp-kv-cache-interleave-size cpu-distributed-timeout-seconds cpu-offload-gb cpu-offload-params cuda-graph-sizes
    cudagraph-capture-sizes cudagraph-metrics custom-histogram-buckets data-parallel-address data-parallel-backend
    data-parallel-external-lb data-parallel-hybrid-lb data-parallel-multi-port-external-lb data-parallel-rank
    data-parallel-rpc-port data-parallel-size data-parallel-size-local data-parallel-start-rank
    dbo-decode-token-threshold dbo-prefill-token-threshold dcp-comm-backend dcp-kv-cache-interleave-size
    dcp-q-replicate decode-context-parallel-size default-mm-loras device device-ids device-memory-utilization
    diffusion-config disable-async-output-proc disable-cascade-attn disable-chunked-mm-input
    disable-custom-all-reduce disable-hybrid-kv-cache-manager disable-image-processor disable-log-stats
    disable-logprobs-during-spec-decoding disable-mm-preprocessor-cache disable-nccl-for-dp-synchronization
    disable-sliding-window distributed-executor-backend distributed-timeout-seconds download-dir dp-sync-interval
    dtype ec-manager-config ec-transfer-config elastic-ep elastic-ep-max-dp-size enable-batch-sharded-sampling
    enable-bf16x3-router-gemm enable-chunked-prefill enable-cumem-allocator enable-dbo enable-elastic-ep
    enable-ep-weight-filter enable-eplb enable-expert-parallel enable-fault-tolerance enable-flashinfer-autotune
    enable-hc-sp enable-layerwise-nvtx-tracing enable-log-requests enable-logging-iteration-details enable-lora
    enable-lora-bias enable-mamba-cache-stochastic-rounding enable-mamba-fine-grained-prefix-cache
    enable-mamba-shared-prefix-checkpoint enable-mfu-metrics enable-mixed-moe-lora-format enable-mm-embeds
    enable-moe-shared-loras enable-multimodal-encoder-data-parallel enable-nccl-comm-suspend enable-prefix-caching
    enable-prompt-adapter enable-prompt-embeds enable-reasoning enable-return-routed-experts enable-shm-tensor-arena
    enable-sleep-mode enable-tower-connector-lora enable-trace-replay enforce-eager engine-use-ray engram-config
    eplb-config eplb-log-balancedness eplb-step-interval eplb-window-size expert-placement-strategy
    fail-on-environ-validation fault-tolerance-config fully-sharded-loras gdn-prefill-backend generation-config
    gpu-memory-utilization guided-decoding-backend guided-decoding-disable-additional-properties
    guided-decoding-disable-any-whitespace guided-decoding-disable-fallback headless hf-config-path hf-overrides
    ignore-patterns image-feature-size image-input-shape image-input-type image-processor image-processor-revision
    image-token-id interleave-mm-strings io-processor-plugin ir-op-priority jit-monitor-mode jit-monitor-verbose
    kda-decode-backend kda-prefill-backend kernel-config kv-cache-dtype kv-cache-dtype-skip-layers
    kv-cache-memory-bytes kv-cache-metrics kv-cache-metrics-sample kv-events-config kv-offloading-backend
    kv-offloading-size kv-sharing-fast-prefill kv-transfer-config language-model-only limit-mm-per-prompt
    linear-backend load-format log-level logging-config logits-processor-pattern logits-processors logprobs-mode
    long-lora-scaling-factors long-prefill-token-threshold long-prefill-token-threshold-adaptive lora-dtype
    lora-extra-vocab-size lora-target-modules mamba-backend mamba-block-size mamba-cache-dtype mamba-cache-mode
    mamba-cache-philox-rounds mamba-ssm-cache-dtype mamba-ssu-algorithm master-addr master-port
    max-context-len-to-capture max-cpu-loras max-cudagraph-capture-size max-logprobs max-long-partial-prefills
    max-lora-cls-labels max-lora-rank max-loras max-model-len max-num-active-seqs max-num-batched-tokens
    max-num-partial-prefills max-num-queued-reqs max-num-queued-tokens max-num-scheduled-tokens max-num-seqs
    max-paddings max-parallel-loading-workers max-prompt-adapter-token max-prompt-adapters max-seq-len-to-capture
    media-io-kwargs mm-cache-preprocessor mm-device-do-normalize mm-encoder-attn-backend mm-encoder-attn-dtype
    mm-encoder-fp8-scale-path mm-encoder-fp8-scale-save-margin mm-encoder-fp8-scale-save-path mm-encoder-only
    mm-encoder-tp-mode mm-hasher-algorithm mm-ipc-gpu-memory-gb mm-processor-cache-gb mm-processor-cache-type
    mm-processor-device mm-processor-kwargs mm-shm-cache-max-object-size-mb mm-tensor-ipc model-class-overrides
    model-impl model-loader-extra-config moe-backend monokernel multi-step-stream-outputs ngram-prompt-lookup-max
    ngram-prompt-lookup-min nnodes node-rank num-gpu-blocks-override num-lookahead-slots num-redundant-experts
    num-scheduler-steps num-speculative-tokens numa-bind numa-bind-cpus numa-bind-nodes offload-backend
    offload-group-size offload-num-in-group offload-params offload-prefetch-step optimization-level
    otlp-traces-endpoint override-attention-dtype override-generation-config override-neuron-config
    override-pooler-config per-request-spec-decode-metrics performance-mode pipeline-parallel-size pooler-config
    preemption-mode prefill-context-parallel-size prefill-schedule-interval prefix-cache-retention-interval
    prefix-caching-hash-algo prefix-match-unit profiler-config prompt-adapters pt-load-map-location
    qlora-adapter-name-or-path quantization quantization-config quantization-param-path ray-workers-use-nsight
    reasoning-config reasoning-parser reasoning-parser-plugin renderer-num-workers replayssm-buffer-len
    return-sampling-mask revision rope-scaling rope-theta runner safetensors-load-strategy
    safetensors-prefetch-block-size safetensors-prefetch-num-threads scheduler-cls scheduler-delay-factor
    scheduler-reserve-full-isl scheduling-policy show-hidden-metrics-for-version shutdown-timeout skip-mm-profiling
    sleep-mode-backend sleep-mode-offload-cudagraph sleep-preserve-parameter-names sparse-indexer-topk-backend
    spec-decoding-acceptance-method spec-method spec-model spec-tokens specialize-active-lora speculative-config
    speculative-disable-by-batch-size speculative-disable-mqa-scorer speculative-draft-tensor-parallel-size
    speculative-max-model-len speculative-model speculative-model-quantization stream-interval
    structured-outputs-config swa-bounded-replay swap-space task tensor-parallel-size tokenizer-pool-extra-config
    tokenizer-pool-size tokenizer-pool-type tokenizer-revision typical-acceptance-sampler-posterior-alpha
    typical-acceptance-sampler-posterior-threshold ubatch-size use-fp64-gumbel use-replayssm use-tqdm-on-load
    use-v2-block-manager video-pruning-method video-pruning-rate watchdog-config watermark watermark-config
    weight-transfer-config worker-cls worker-extension-cls worker-use-ray
""")
"""Options of the engine: of the server, and of the offline clients."""

FRONTEND = _names("""
    allow-credentials allowed-headers allowed-methods allowed-origins api-server-count chat-template
    chat-template-content-format default-chat-template-kwargs disable-access-log-for-endpoints disable-fastapi-docs
    disable-frontend-multiprocessing disable-log-requests disable-uvicorn-access-log enable-auto-tool-choice
    enable-force-include-usage enable-log-deltas enable-log-outputs enable-offline-docs enable-prompt-tokens-details
    enable-request-id-headers enable-server-load-tracking enable-ssl-refresh enable-tokenizer-info-endpoint
    exclude-tools-when-tool-choice-none expand-tools-even-if-tool-choice-none grpc h11-max-header-count
    h11-max-incomplete-event-size log-error-stack max-log-len middleware response-role return-tokens-as-token-ids
    root-path ssl-ca-certs ssl-cert-reqs ssl-certfile ssl-keyfile tokens-only tool-call-parser tool-parser-plugin
    tool-server trust-request-chat-template uvicorn-log-level
""")
"""Options of the API server around the engine."""

OFFLINE_CLIENT = _names("""
    asr-max-audio-len-sec asr-min-audio-len-sec async-engine async-engine-dummy backend batch-size custom-output-len
    dataset dataset-name dataset-path disable-detokenize disable-frontend-multiprocessing disable-log-requests
    enable-multimodal-chat hf-enable-torch-compile hf-max-batch-size hf-name hf-output-len hf-split hf-subset
    input-len input-length-range lora-assignment lora-path model n no-oversample no-stream num-iters
    num-iters-warmup num-prompts num-warmups output-json output-len prefix-len prefix-repetition-num-prefixes
    prefix-repetition-output-len prefix-repetition-prefix-len prefix-repetition-suffix-len prequeue-requests profile
    profile-result-dir random-batch-size random-input-len random-output-len random-prefix-len random-range-ratio
    repeat-count save-to-pytorch-benchmark-format seed served-model-name skip-tokenizer-init sort temperature
    tokenizer tokenizer-mode top-p trust-remote-code use-beam-search use-new-beam-search-impl
""")
"""The clients of the other modes: `benchmark_*.py`, `vllm bench throughput|latency`, beside the engine's own."""

SECRET = _names("api-key hf-token")
"""Options whose value would be stored and shown."""

OURS = _names("host model port uds")
"""Server options that only we may set."""


def positive(name: str) -> str:
    """`--no-enable-prefix-caching` -> `--enable-prefix-caching`: argparse's switched-off form is the same option."""
    return "--" + name[5:] if name.startswith("--no-") and name not in SERVE_CLIENT else name


def is_server(name: str) -> bool:
    """Whether the option is the server's (or the engine's inside it)."""
    return positive(name) in ENGINE or positive(name) in FRONTEND


def is_serve_client(name: str) -> bool:
    """Whether the serve client knows the option in any release."""
    return name in SERVE_CLIENT or positive(name) in SERVE_CLIENT


def is_offline(name: str) -> bool:
    """Whether an offline client knows the option in any release."""
    return name in OFFLINE_CLIENT or positive(name) in ENGINE
