"""WHERE it runs: the engine protocol, the docker and process engines, and the driver inside the container."""
