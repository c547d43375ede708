"""SIMULATED: part of a tree that runs no model."""
