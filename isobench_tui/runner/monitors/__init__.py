"""What the runner sees of the host while it works: disks, GPUs, the machine itself."""
