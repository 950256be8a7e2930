"""The search: the only package that imports Ray or Optuna."""

import os
import sys

# Read by Ray when it is imported, and by its workers; what the user has set stays.
_QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Set here because Ray's default changes between versions; the token is made in ~/.ray on first use.
    "RAY_AUTH_MODE": "token",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    # It prints a stack trace at each SIGTERM, which is how a search is asked to end.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Past this time (by default 2 seconds) a trial that still unwinds costs the next one its slot, for good. Never:
    # one that hangs is ended by `watchdog.py`, which gives the slot back.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "1000000",
    "TUNE_WARN_THRESHOLD_S": "3600",
    # Seconds between snapshots of a search, which nothing of ours reads: after the first one, none until the end. On a
    # full disk each would end the search.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "auto",
}

for _name, _value in _QUIET_ENVIRONMENT.items():
    # Ray reads its mode once, when it is imported: set after that, its processes would not know each other.
    if _name != "RAY_AUTH_MODE" or "ray" not in sys.modules:
        os.environ.setdefault(_name, _value)
