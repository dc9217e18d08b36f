"""What "AUTO" means: a profile that fits, else an estimate from the sizes of model and caches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.pool import CPUPool
from corestream.cpu.topology import topology
from corestream.errors import CorestreamWarning
from corestream.profiles.cpu_model import cpu_model
from corestream.profiles.key import ProfileKey
from corestream.profiles.profile import Profile
from corestream.profiles.store import Found, find_profile, load_profile
from corestream.runtime.model_facts import ModelFacts, facts_of_weights
from corestream.runtime.model_structure import model_structure
from corestream.runtime.stream_cost import Caches, possible_cuts, seconds_of_call

# Of settings that are estimated to be this close, the one with most streams is taken: it needs
# least of what the estimate leaves out.
_TIE = 1.1

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class AutoChoice:
    """What "AUTO" came to.

    Attributes:
        num_streams: How many streams.
        cpu_pool: The cores that they own: those asked for, or fewer if a profile says so.
        source: "profile", "lowering" (the model was lowered for such streams), "estimate", or
            "default" (nothing is known of the model: one stream per core).
        reason: Why, in words.
        notes: Profiles that were refused or could not be read, in words.

    Thread-safe: a value that never changes.
    """

    num_streams: int
    cpu_pool: CPUPool
    source: str
    reason: str
    notes: tuple[str, ...] = ()


def profile_key(model: Any, pool: CPUPool) -> ProfileKey:
    """What a profile must say to be used for `model` on these cores."""
    return ProfileKey(
        cpu_model=cpu_model(),
        cpus=str(CPUSet(pool.core_ids)),
        torch=torch.__version__,
        model=model_structure(model),
    )


def choose_streams(
    pool: CPUPool,
    *,
    model: Any,
    profile: Profile | str | os.PathLike[str] | None = None,
    count_facts: Callable[[], ModelFacts | None] | None = None,
) -> AutoChoice:
    """How many streams, on which of the cores.

    Args:
        pool: The cores that there are.
        model: What will run; None: not known.
        profile: One to use, or its file; None: the one saved for this machine and model, if any.
        count_facts: Counts what a call of the model does, where there is an example.

    Raises:
        ValueError: The profile that was given holds for another machine or model; says for which.
        OSError: Its file cannot be read.
    """
    notes: tuple[str, ...] = ()
    if model is not None or profile is not None:
        found = _profile_for(model, pool, given=profile)
        notes = found.notes
        if found.profile is not None and _suits(found.profile, model):
            return _follow(found.profile, pool, notes=notes)
        if found.profile is not None:
            team = found.profile.team_size
            notes = (*notes, f"a profile is for teams of {team}: lower the model for them")
    if choice := _as_lowered(model, pool, notes=notes):
        return choice
    facts = count_facts() if count_facts is not None else None
    if facts is None and model is not None:
        facts = facts_of_weights(model)
    if facts is None:
        return AutoChoice(len(pool), pool, "default", "one stream per core", notes)
    return _estimate(pool, facts, notes=notes)


def _profile_for(
    model: Any, pool: CPUPool, *, given: Profile | str | os.PathLike[str] | None
) -> Found:
    if given is None:
        return find_profile(profile_key(model, pool))
    if not isinstance(given, Profile | str | os.PathLike):
        raise TypeError(
            f"profile must be a Profile or the path of one; got {given!r}; pass what tune() saved"
        )
    profile = given if isinstance(given, Profile) else load_profile(Path(given))
    here = profile_key(model, pool)
    if model is None:
        # An executor need not know what it will run.
        here = ProfileKey(
            cpu_model=here.cpu_model, cpus=here.cpus, torch=here.torch, model=profile.key.model
        )
    if differences := profile.key.differences(here):
        raise ValueError(
            f"profile must be of this machine and model; got one where {'; '.join(differences)}; "
            f"call tune() here"
        )
    return Found(profile)


def _suits(profile: Profile, model: Any) -> bool:
    """Whether the model may run in teams of the profile's size: compiled code has its own."""
    is_compiled = getattr(model, "backend", None) == "aotinductor"
    return not is_compiled or model.team_size == profile.team_size


def _follow(profile: Profile, pool: CPUPool, *, notes: tuple[str, ...]) -> AutoChoice:
    num_cores = profile.num_streams * profile.team_size
    if num_cores > len(pool):
        refused = f"refused a profile of {num_cores} cores for {len(pool)}"
        return AutoChoice(len(pool), pool, "default", "one stream per core", (*notes, refused))
    if profile.is_stock_best:
        warnings.warn(
            f"streams should be faster than the model as it is; tune() found otherwise: "
            f"{profile.verdict}; call the model itself",
            CorestreamWarning,
            stacklevel=4,
        )
    used = pool if num_cores == len(pool) else CPUPool(pool.core_ids[:num_cores])
    reason = (
        f"a profile of {profile.made or 'unknown date'} for {profile.objective}: "
        f"{profile.num_streams} streams of {profile.team_size} cores, {profile.verdict}"
    )
    return AutoChoice(profile.num_streams, used, "profile", reason, notes)


def _as_lowered(model: Any, pool: CPUPool, *, notes: tuple[str, ...]) -> AutoChoice | None:
    """Code that was compiled for a team size is as fast as it can be on that one only."""
    team_size = getattr(model, "team_size", None)
    if not isinstance(team_size, int) or not 1 <= team_size <= len(pool):
        return None
    reason = f"the model was lowered for streams of {team_size} cores"
    return AutoChoice(len(pool) // team_size, pool, "lowering", reason, notes)


def _estimate(pool: CPUPool, facts: ModelFacts, *, notes: tuple[str, ...]) -> AutoChoice:
    machine = topology()
    cuts = possible_cuts(pool.core_ids, topology=machine)
    caches = Caches.of(pool.core_ids, topology=machine)
    seconds = {cut: seconds_of_call(cut, facts, caches=caches, num_cores=len(pool)) for cut in cuts}
    shortest = min(seconds.values())
    # From most streams to fewest.
    best = next(cut for cut in cuts if seconds[cut] <= shortest * _TIE)
    per_core = seconds[cuts[0]]
    batch = f"calls of {facts.batch_size} items" if facts.batch_size else "an item per core"
    reason = (
        f"{best.num_streams} streams of {best.team_size} cores: for {batch}, "
        f"{facts.flops / 1e9:.3g} GFLOP each, and {facts.weight_bytes / _MIB:.3g} MiB of weights "
        f"against an L3 of {caches.l3_bytes / _MIB:.3g} MiB, estimated at "
        f"{seconds[best] * 1e3:.3g} ms against {per_core * 1e3:.3g} ms with one stream per core"
    )
    return AutoChoice(best.num_streams, pool, "estimate", reason, notes)
