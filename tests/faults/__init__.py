"""Real searches killed at moments drawn by seed, resumed, and counted against an undisturbed one."""
