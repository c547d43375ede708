"""THE TRUTH: the SQLite schema, queries, the command bus and the live rows."""
