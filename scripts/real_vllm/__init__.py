"""What `scripts/real-vllm` does: images with a real vLLM for the CPU, and a campaign of four patches through them."""
