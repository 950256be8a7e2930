"""Batch scripts of Slurm: the #SBATCH lines as `sbatch --test-only` would read them, then the script itself."""

from __future__ import annotations

import re

from tests.cluster.commands import bash_complaints, ray_complaints

TIME = r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+|\d+-\d+:\d\d|\d+-\d+:\d\d:\d\d"

# Option -> what its value must be; None: it stands alone.
OPTIONS: dict[str, str | None] = {
    "account": r"\S+",
    "constraint": r"\S+",
    "cpus-per-task": r"[1-9]\d*",
    "exclusive": None,
    "gpus-per-node": r"(\w+:)?[1-9]\d*",
    "gres": r"\w+(:\w+)*(,\w+(:\w+)*)*",
    "job-name": r"\S+",
    "mem": r"\d+[KMGT]?",
    "nodes": r"[1-9]\d*(-[1-9]\d*)?",
    "ntasks-per-node": r"[1-9]\d*",
    "open-mode": r"append|truncate",
    "output": r"\S+",
    "partition": r"\S+",
    "qos": r"\S+",
    "requeue": None,
    "signal": r"((R|B|RB|BR):)?(USR1|USR2|TERM|INT|[1-9]\d*)(@\d+)?",
    "time": TIME,
}


def check(text: str) -> list[str]:
    """Complaints about a script, one a line; none: it is well."""
    lines = text.splitlines()
    said = [] if lines[0] == "#!/bin/bash" else [f"must begin with #!/bin/bash, got {lines[0]}"]
    said += directives(lines) + rules(settings(lines), text)
    return said + (bash_complaints(text) or ray_complaints(text))


def directives(lines: list[str]) -> list[str]:
    """Unknown options, wrong values, options twice, and lines that come too late, which Slurm passes over."""
    said: list[str] = []
    seen: set[str] = set()
    script_began = False
    for line in lines:
        script_began = script_began or bool(line.strip() and not line.startswith("#"))
        if not line.startswith("#SBATCH"):
            said += [f"must be #SBATCH, got {line}"] if re.match(r"#\s*SBATCH\b|#SBATHC|#sbatch", line) else []
            continue
        found = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line)
        if not found:
            said.append(f"must be #SBATCH --option or --option=value, got {line}")
            continue
        name, value = found.groups()
        said += option_complaints(name, value)
        said += [f"--{name}: comes twice"] if name in seen else []
        said += [f"--{name}: must come before the first command"] if script_began else []
        seen.add(name)
    return said


def option_complaints(name: str, value: str | None) -> list[str]:
    if name not in OPTIONS:
        return [f"--{name}: sbatch knows no such option, or this validator does not"]
    form = OPTIONS[name]
    if form is None:
        return [] if value is None else [f"--{name}: takes no value, got {value}"]
    return [] if value and re.fullmatch(form, value) else [f"--{name}: must be like {form}, got {value}"]


def settings(lines: list[str]) -> dict[str, str | None]:
    found = (re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def rules(given: dict[str, str | None], text: str) -> list[str]:
    """What makes a search stop in order, go on, and keep to itself."""
    said = [
        f"#SBATCH --{name}: must be there"
        for name in ("time", "requeue", "exclusive", "gpus-per-node")
        if name not in given
    ]
    if given.get("ntasks-per-node") != "1":
        said.append("--ntasks-per-node: must be 1, one Ray a node")
    if given.get("open-mode") != "append":
        said.append("--open-mode: must be append, or a requeued job overwrites the log")
    warned = re.fullmatch(r"B:USR1@(\d+)", given.get("signal") or "")
    if not warned or int(warned[1]) < 60:
        said.append("--signal: must be B:USR1@SECONDS, a minute at least, as the trap expects")
    exported = " ".join(re.findall(r"^export (.*)$", text, flags=re.MULTILINE))
    wanted = ("RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0")
    return said + [f"must export {setting}" for setting in wanted if setting not in exported]
