"""From a run directory to figures and tables; neither torch nor Ray."""
