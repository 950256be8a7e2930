"""What a user can cause, as one tree. Each is one line on stderr and exit code 1; none shows a traceback.

GccSearchError
├── SpaceError       a search-space file or a setting in it
├── DataError        a data set: folder, image, label, cache
├── WeightsError     a weights file: missing, torn, for another network
├── ResultsError     a run directory: missing, torn, of another schema version, in the way
│   ├── OccupiedError    another process writes there
│   ├── DiskError        the disk fails, for another reason than room
│   ├── DiskFullError    no room to write into it
│   └── StorageError     the bucket it lies in does not answer, or refuses
├── ResourceError    no such device or Ray cluster, or a trial that does not fit on what there is
└── ClusterError     a cluster, or machines of it, not fit for a search: a line for each thing that is wrong
    └── UnreachableError    it does not answer, for now

A trial that diverges or collapses is a result (`results.schema.Status`), not an error.
"""

from __future__ import annotations


class GccSearchError(Exception):
    """The root: `<where>: <what> must be <rule>, got <value>; <what to do>`."""


class SpaceError(GccSearchError):
    """A search space, or one of its fields, breaks a rule."""


class DataError(GccSearchError):
    """A data set is missing, laid out wrongly or unreadable."""


class WeightsError(GccSearchError):
    """Weights are missing, torn, or belong to another network."""


class ResultsError(GccSearchError):
    """A run directory cannot be read or written."""


class OccupiedError(ResultsError):
    """Another process writes to a folder of a run directory, and has not ended in time."""


class DiskError(ResultsError):
    """The system refuses a file or a folder of a run directory: another attempt, or another machine, may do better."""


class DiskFullError(ResultsError):
    """There is no room for a file of a run directory: it can be written once there is."""


class StorageError(ResultsError):
    """A bucket does not answer, or refuses: what was to be written there is not."""


class ResourceError(GccSearchError):
    """The machine or cluster has less than was asked for, or Ray does not start or answer."""


class ClusterError(GccSearchError):
    """A cluster, or machines of it, are not fit for a search: a line for each thing that is wrong."""


class UnreachableError(ClusterError):
    """A cluster does not answer, for now."""
