"""The forms of `--address`."""

from __future__ import annotations

import os
from typing import TypeGuard

FORMS = "auto, HOST:PORT or ray://HOST:PORT"
_CLIENT = "ray://"
# Of a cluster's dashboard, as it is forwarded to this machine.
DASHBOARD = "http://127.0.0.1:8265"
# Set for a search that a Ray Client has started on the head: the cluster that it was asked to join is this one.
THERE_VARIABLE = "GCC_SEARCH_ON_HEAD"


def is_client_address(address: str | None) -> TypeGuard[str]:
    """Whether the cluster is to be reached through Ray Client: this machine is not part of it."""
    return address is not None and address.startswith(_CLIENT) and THERE_VARIABLE not in os.environ


def to_join(address: str) -> str:
    """`address` as a machine of the cluster has it: `auto` or HOST:PORT."""
    return "auto" if address.startswith(_CLIENT) and THERE_VARIABLE in os.environ else address


def host_and_port(address: str) -> str:
    """HOST:PORT, `ray://` taken away."""
    return address.removeprefix(_CLIENT)
