"""Widgets that know nothing of the store, of files, or of each other."""
