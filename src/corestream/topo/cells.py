"""The smallest parts of a picture: a core each, or a run of cores that are alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Core, CoreType
from corestream.topo.picture import Picture, State
from corestream.topo.tree import Box
from corestream.topo.words import LABELS, cache_texts, short_list


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A coloured patch with text: a CPU, or the CPUs of a run of cores.

    Attributes:
        text: What to write on it: ids.
        note: What to write behind that, smaller where that is possible.
        state: Whose it is.
    """

    text: str
    note: str
    state: State


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A core with a spot for each of its CPUs, or a run of cores with one spot."""

    spots: tuple[Spot, ...]
    is_run: bool = False


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cells of one core type in one box, with what to say about them all."""

    caption: str
    core_type: CoreType | None
    cells: tuple[Cell, ...]


class Cells:
    """Makes the cells of a picture's boxes, cores or runs of them.

    Args:
        picture: The picture.
        is_folded: Whether runs of cores that are alike become one cell.
        mark: What to write behind the id of a CPU in that state.
    """

    def __init__(self, picture: Picture, *, is_folded: bool, mark: Callable[[State], str]) -> None:
        self._states = picture.states
        self._is_folded = is_folded
        self._mark = mark
        is_hybrid = any(core.core_type for core in picture.topology.cores)
        self._caches = cache_texts(picture.topology) if is_hybrid else {}

    def of_box(self, box: Box) -> list[Cluster]:
        """Return the cells of the cores that lie in none of a box's own boxes.

        Args:
            box: The box.
        """
        # "performance" sorts after "efficient", and comes first.
        cores = sorted(box.cores, key=lambda core: core.core_type or "", reverse=True)
        return [
            self._cluster(core_type, sorted(group, key=lambda core: min(core.cpus)))
            for core_type, group in groupby(cores, key=lambda core: core.core_type)
        ]

    def _cluster(self, core_type: CoreType | None, cores: Sequence[Core]) -> Cluster:
        caches = self._caches.get(min(cores[0].cpus), "")
        caption = f"{core_type} cores: {caches}".rstrip(": ") if core_type else ""
        if not self._is_folded:
            cells = [Cell(spots=tuple(map(self._spot, core.cpus))) for core in cores]
        else:
            alike = groupby(cores, key=lambda core: [self._states[cpu] for cpu in core.cpus])
            cells = [self._run(list(group), states) for states, group in alike]
        return Cluster(caption=caption, core_type=core_type, cells=tuple(cells))

    def _spot(self, cpu: int) -> Spot:
        state = self._states[cpu]
        return Spot(text=str(cpu), note=self._mark(state), state=state)

    def _run(self, cores: list[Core], states: list[State]) -> Cell:
        """Return the cell of a run: what one of its cores is used for, its other CPUs behind."""
        used = next((state for state in states if state not in ("outside", "allowed")), states[0])
        first = CPUSet(cpu for core in cores for cpu in core.cpus if self._states[cpu] == used)
        others = CPUSet(cpu for core in cores for cpu in core.cpus) - first
        label = f"stream {used}" if isinstance(used, int) else LABELS[used]
        note = f" {label}"
        if others:
            note += f" (siblings {short_list(others)})"
        return Cell(spots=(Spot(text=f"{short_list(first)}:", note=note, state=used),), is_run=True)
