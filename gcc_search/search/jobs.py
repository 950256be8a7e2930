"""What is to be trained: trials, the baselines they are compared to, and the networks they start from."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcc_search import __version__
from gcc_search.atomic import sha256_of_file
from gcc_search.baseline import baseline_explanation
from gcc_search.identity import START, Identity
from gcc_search.results.schema import CHANGE_NO_NUMBER, NOTED_LATER, FailureKind, Role
from gcc_search.settings import Explanation, TrialSettings
from gcc_search.space import SearchSpace
from gcc_search.vocabulary import Value

FOLDERS: dict[Role, str] = {"trial": "trials", "baseline": "baselines", "start": "baselines"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One network to train.

    Args:
        needs: which other must be finished before, the network it starts from, by folder name below baselines/. A
            trial's baseline may train beside it.
        failures: how its attempts so far have failed. alone: whether nothing may run beside it.
        has_begun: whether an earlier attempt was at it. share_left: of its epochs, in [0, 1].
    """

    identity: Identity
    settings: TrialSettings
    needs: tuple[str, ...] = ()
    failures: tuple[FailureKind, ...] = ()
    alone: bool = False
    has_begun: bool = False
    share_left: float = 1.0

    @property
    def id(self) -> str:
        return self.identity.id

    @property
    def is_trial(self) -> bool:
        return self.identity.role == "trial"

    def folder(self, run: Path) -> Path:
        return _folder(run, self.identity.role, self.id)

    def to_config(self) -> dict[str, Any]:
        """Plain values for Ray to carry; `from_config` reads them."""
        identity = self.identity
        return {
            "id": identity.id,
            "role": identity.role,
            "sampled": json.dumps(identity.sampled),
            "baseline": identity.baseline,
            "settings": self.settings.model_dump_json(),
            "failures": list(self.failures),
        }

    def in_reports(self) -> dict[str, Any]:
        """What each of its reports says of it beside a row: `SuccessiveHalving` goes by that."""
        own, settings = self.identity, self.settings
        return {
            "id": own.id,
            "role": own.role,
            "baseline": own.baseline,
            "network": settings.network,
            "seed": settings.seed,
        }

    @staticmethod
    def from_config(config: dict[str, Any]) -> Job:
        identity = Identity(
            id=config["id"], role=config["role"], sampled=json.loads(config["sampled"]), baseline=config["baseline"]
        )
        settings = TrialSettings.model_validate_json(config["settings"])
        return Job(identity=identity, settings=settings, failures=tuple(config["failures"]))


def folder_of(config: Mapping[str, Any], run: Path) -> Path:
    """`Job.from_config(config).folder(run)`, without a look at its settings."""
    return _folder(run, config["role"], config["id"])


def _folder(run: Path, role: Role, job_id: str) -> Path:
    return run / FOLDERS[role] / job_id


@dataclass(frozen=True, kw_only=True)
class JobMaker:
    """Turns sampled settings into jobs. `fingerprints` are the data sets', by image size; `on_gpu`: where they run."""

    space: SearchSpace
    fingerprints: dict[int, str]
    on_gpu: bool = False

    def jobs_of(self, network: str, trial_id: str, sampled: dict[str, Value]) -> list[Job]:
        """The trial, last, after the baseline and the start network that it needs."""
        settings = self.space.settings(network, sampled)
        start = self._start(settings)
        if start is not None:
            settings = settings.model_copy(update={"weights": START + start.id})
        baseline = self._baseline(settings, start)
        identity = Identity(id=trial_id, sampled=dict(sampled), baseline=baseline.id)
        trial = Job(identity=identity, settings=settings, needs=baseline.needs)
        return [job for job in (start, baseline, trial) if job is not None]

    def _baseline(self, settings: TrialSettings, start: Job | None) -> Job:
        settings = settings.model_copy(update={"explanation": baseline_explanation(settings.explanation)})
        needs = () if start is None else (start.id,)
        return Job(identity=Identity(id=self._key(settings), role="baseline"), settings=settings, needs=needs)

    def _start(self, settings: TrialSettings) -> Job | None:
        if self.space.start is None:
            return None
        # Images are read at one size by both, whatever `start` says of it.
        recipe = self.space.start.model_copy(update={"image_size": settings.recipe.image_size})
        first = {"weights": self.space.start_weights, "recipe": recipe, "explanation": Explanation()}
        settings = settings.model_copy(update=first)
        return Job(identity=Identity(id=self._key(settings), role="start"), settings=settings)

    def _key(self, settings: TrialSettings) -> str:
        """Folder name of a baseline: equal for equal (network, weights, images, recipe, evaluation, seed), and views
        that cross-entropy is on. It stays what it was before there were more settings."""
        explanation = settings.explanation.model_dump(mode="json").items()
        decisive = settings.model_dump(mode="json", exclude=set(CHANGE_NO_NUMBER)) | {
            "explanation": {name: value for name, value in explanation if (name, value) not in NOTED_LATER.items()},
            "data": self.fingerprints[settings.recipe.image_size],
            "weights": _weights_identity(settings.weights),
            "package": __version__,
        }
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        return f"{settings.network}-{digest[:12]}"


def image_sizes(space: SearchSpace) -> tuple[int, ...]:
    """Every image size that trials of this space can have."""
    parameter = space.parameters.get("image_size")
    if parameter is None or parameter.choices is None:
        return (space.recipe.image_size,)
    return tuple(int(size) for size in parameter.choices)


def baseline_combinations(space: SearchSpace) -> int:
    """How many baselines each network needs: one for each combination of values that change it."""
    names = [name for name in space.parameters if space.changes_baseline(name)]
    shared = [name for name in names if name in Explanation.model_fields]
    listed = itertools.product(*(space.parameters[name].choices or () for name in shared))
    asked = (space.explanation.model_copy(update=dict(zip(shared, values, strict=True))) for values in listed)
    explanations = {baseline_explanation(explanation) for explanation in asked}
    return len(explanations) * _combinations(space, [name for name in names if name not in shared])


def start_combinations(space: SearchSpace) -> int:
    """How many start networks each network needs; 0 where trials start from none."""
    # The rest of their recipe is `start`.
    return 0 if space.start is None else _combinations(space, ["image_size", "seed"])


def _combinations(space: SearchSpace, names: Sequence[str]) -> int:
    return math.prod(len(space.parameters[name].choices or ()) for name in names if name in space.parameters)


def _weights_identity(weights: str) -> str:
    path = Path(weights)
    return sha256_of_file(path) if path.is_file() else weights
