"""The commands. Imports the rest lazily, so that `status` starts at once."""
