"""Ratios measured side by side in one process; see README.md in this folder."""
