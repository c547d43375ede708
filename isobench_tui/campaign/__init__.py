"""WHAT to run: the campaign file, workloads, identities, patch lint. Reads files, nothing else."""
