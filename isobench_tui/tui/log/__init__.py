"""The dashboard's log pane: any log of an attempt, of any size, live, and harmless whatever was written into it."""
