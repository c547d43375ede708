"""Pure functions from a snapshot to what a pane shows. Only rich's `Text` is used here; no widget, no app."""
