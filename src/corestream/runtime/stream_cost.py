"""How long a call would take on streams of one size or another: what AUTO goes by.

An estimate from the sizes of caches and rates that current server cores reach within a factor of
two. It is there to tell apart what differs by more: weights that every stream reads from memory
anew, cores without an item, operators so short that a team spends their time at barriers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from corestream.cpu.machine import Topology
from corestream.cpu.partition import partition
from corestream.runtime.model_facts import ModelFacts

# Rates of a core: fp32 operations a second in matrix products, bytes a second from L3 and, alone,
# from memory. All cores together get less than their sum from memory.
_FLOPS = 60e9
_L3_BYTES_PER_S = 25e9
_MEMORY_BYTES_PER_S = 12e9
_MEMORY_OF_MACHINE = 25e9
_MEMORY_OF_EACH_CORE = 4e9

# A barrier of two threads that spin, and what each doubling of the team adds.
_BARRIER_S = 2e-6
_BARRIER_PER_DOUBLING_S = 0.7e-6
# Across L3 domains a cache line takes about three times as long.
_FAR_BARRIER = 3.0
# What a team loses to uneven shares for each member.
_LOSS_PER_MEMBER = 0.015

# Of a cache; the rest holds what else is going on.
_USABLE = 0.6
# Where the kernel does not tell.
_L2_BYTES = 1 << 20
_L3_BYTES_PER_CORE = 2 << 20


@dataclass(frozen=True, slots=True)
class Cut:
    """A pool cut into streams.

    Attributes:
        num_streams: How many.
        team_size: Cores of the smallest.
        is_far: A stream's cores lie in several L3 domains.
    """

    num_streams: int
    team_size: int
    is_far: bool


@dataclass(frozen=True, slots=True)
class Caches:
    """What a pool's cores have.

    Attributes:
        l2_bytes: Of one core.
        l3_bytes: Of one L3 domain.
    """

    l2_bytes: int
    l3_bytes: int

    @classmethod
    def of(cls, core_ids: Sequence[int], *, topology: Topology) -> Caches:
        """Those of the first core; all are taken to be alike."""
        first = core_ids[0]
        l2 = topology.cache_size_bytes(first, level=2)
        l3 = topology.cache_size_bytes(first, level=3)
        return cls(l2 or _L2_BYTES, l3 or _L3_BYTES_PER_CORE * len(core_ids))


def possible_cuts(core_ids: Sequence[int], *, topology: Topology) -> list[Cut]:
    """The cuts into streams of nearly equal size that cross no NUMA node, most streams first.

    For each team size that with as many streams as there is room for.

    Cuts that cross an L3 domain are among them only where no team of two could stay within one: in
    the odd remnants of domains that a cpuset may leave.
    """
    cuts = []
    counts = {len(core_ids) // team for team in range(1, len(core_ids) + 1)}
    for num_streams in sorted(counts, reverse=True):
        parts = partition(core_ids, num_streams, topology=topology)
        places = [{topology.locality(cpu) for cpu in part} for part in parts]
        if any(len({place[:2] for place in found}) > 1 for found in places):
            continue
        is_far = any(len(found) > 1 for found in places)
        cuts.append(Cut(num_streams, min(map(len, parts)), is_far))
    has_near_teams = any(cut.team_size > 1 and not cut.is_far for cut in cuts)
    return [cut for cut in cuts if not (cut.is_far and has_near_teams)]


def seconds_of_call(cut: Cut, facts: ModelFacts, *, caches: Caches, num_cores: int) -> float:
    """How long a call of the facts' batch takes; without one, of an item for each core."""
    batch = facts.batch_size or num_cores
    active = min(cut.num_streams, batch)
    items = math.ceil(batch / active)
    team = cut.team_size
    effective = team / (1 + _LOSS_PER_MEMBER * (team - 1))
    compute = items * facts.flops / (_FLOPS * 4 / facts.item_bytes * effective)
    memory = _MEMORY_OF_MACHINE + _MEMORY_OF_EACH_CORE * num_cores
    weights = _seconds_to_read(
        facts.weight_bytes, held=facts.weight_bytes, shared=True, cut=cut, caches=caches
    )
    if weights is None:
        alone = facts.weight_bytes / (team * _MEMORY_BYTES_PER_S)
        weights = max(alone, active * facts.weight_bytes / memory)
    moved = 2 * items * facts.activation_bytes
    activations = _seconds_to_read(
        moved, held=2 * items * facts.largest_bytes, shared=False, cut=cut, caches=caches
    )
    if activations is None:
        activations = max(moved / (team * _MEMORY_BYTES_PER_S), active * moved / memory)
    return max(compute, weights + activations) + facts.num_ops * _barrier_s(cut)


def _seconds_to_read(
    size: float, *, held: float, shared: bool, cut: Cut, caches: Caches
) -> float | None:
    """For a team to get bytes of which `held` have to stay in a cache; None: from memory."""
    team = cut.team_size
    if held / team <= _USABLE * caches.l2_bytes:
        return 0.0
    streams_of_l3 = 1 if shared else cut.num_streams
    if held * streams_of_l3 <= _USABLE * caches.l3_bytes:
        return size / (team * _L3_BYTES_PER_S)
    return None


def _barrier_s(cut: Cut) -> float:
    if cut.team_size == 1:
        return 0.0
    seconds = _BARRIER_S + _BARRIER_PER_DOUBLING_S * math.log2(cut.team_size)
    return seconds * _FAR_BARRIER if cut.is_far else seconds
