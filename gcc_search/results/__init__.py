"""The run directory: its schema, its writer, its reader; neither torch nor Ray."""
