"""Images of the docker engine: names, registries, pulls."""
