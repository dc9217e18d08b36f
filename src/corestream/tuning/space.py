"""Which settings there are, which of them to look at first, and which are next to each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from corestream.tuning.setting import STOCK, Setting

Shape = tuple[int, int]
"""Streams, and cores of each."""


def stream_shapes(num_cores: int) -> list[Shape]:
    """Numbers of streams and team sizes worth a look, smallest teams first.

    For each team size as many streams as there is room for, if not a larger team has room for as
    many; and half of them, a quarter and so on, for what is bound by memory.

    >>> stream_shapes(4)
    [(4, 1), (2, 1), (1, 1), (2, 2), (1, 2), (1, 4)]
    """
    full = {num_cores // team: team for team in range(1, num_cores + 1)}
    shapes = []
    for most, team in sorted(full.items(), key=lambda item: item[1]):
        streams = most
        while streams:
            shapes.append((streams, team))
            streams //= 2
    return shapes


def split_shapes(num_cores: int, *, items: int) -> list[Shape]:
    """The same for requests of so many items that are split over the streams.

    One stream, two, three and so on, as long as more of them make the parts smaller; each with
    all cores, half of them, a quarter.

    >>> split_shapes(4, items=3)
    [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 4)]
    """
    parts = {-(-items // streams): streams for streams in range(min(items, num_cores), 0, -1)}
    shapes = []
    for streams in parts.values():
        team = num_cores // streams
        while team:
            shapes.append((streams, team))
            team //= 2
    return sorted(shapes, key=lambda shape: (shape[1], shape[0]))


@dataclass(frozen=True)
class SearchSpace:
    """All settings.

    Attributes:
        num_cores: Cores that streams may own.
        batch_sizes: Items that a stream may run at a time, ascending.
        backends: What the model can be lowered with, cheapest to try first.
        stock_threads: Threads of stock PyTorch.
        request_items: Items of a request that is split over all streams, as MultiStreamModule does
            it; None: a stream runs whole requests, of any of the batch sizes.

    Thread-safe: a value that never changes.
    """

    num_cores: int
    batch_sizes: tuple[int, ...]
    backends: tuple[str, ...]
    stock_threads: int
    request_items: int | None = None

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting, stock first."""
        return (*self.stock, *(one for backend in self.backends for one in self._with(backend)))

    @cached_property
    def stock(self) -> tuple[Setting, ...]:
        """Those without streams."""
        sizes = self.batch_sizes if self.request_items is None else (self.request_items,)
        return tuple(
            Setting(num_streams=1, team_size=self.stock_threads, batch_size=size, backend=STOCK)
            for size in sizes
        )

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Streams and team sizes."""
        if self.request_items is None:
            return tuple(stream_shapes(self.num_cores))
        return tuple(split_shapes(self.num_cores, items=self.request_items))

    def _with(self, backend: str) -> Iterator[Setting]:
        for streams, team in self.shapes:
            for size in self._sizes(streams):
                yield Setting(num_streams=streams, team_size=team, batch_size=size, backend=backend)

    def _sizes(self, num_streams: int) -> tuple[int, ...]:
        if self.request_items is None:
            return self.batch_sizes
        return (-(-self.request_items // num_streams),)

    def __len__(self) -> int:
        return len(self.settings)

    @cached_property
    def coarse(self) -> tuple[Setting, ...]:
        """A net over the space: teams of 1, 4, 16... and all cores, three batches, each backend.

        Cheapest backends first, so that the dear ones are those that there is no time left for.
        """
        teams = sorted({team for _, team in self.shapes})
        some_teams = {team for index, team in enumerate(teams) if index % 3 == 0} | {teams[-1]}
        count = len(self.batch_sizes)
        some_sizes = {self.batch_sizes[index] for index in (0, count // 2, count - 1)}
        most = {team: max(s for s, t in self.shapes if t == team) for team in teams}
        chosen = []
        for one in self.settings:
            is_size = self.request_items is not None or one.batch_size in some_sizes
            is_shape = one.is_stock or (
                one.team_size in some_teams and one.num_streams == most[one.team_size]
            )
            if is_size and is_shape:
                chosen.append(one)
        return tuple(chosen)

    def neighbours(self, setting: Setting) -> list[Setting]:
        """Settings one step away: in the team size, the streams, the batch or the backend."""
        found = []
        if not setting.is_stock:
            found += [self._moved(setting, shape) for shape in self._next_shapes(setting)]
        if self.request_items is None:
            found += [
                Setting(
                    num_streams=setting.num_streams,
                    team_size=setting.team_size,
                    batch_size=size,
                    backend=setting.backend,
                )
                for size in _beside(self.batch_sizes, setting.batch_size)
            ]
        if not setting.is_stock:
            found += [
                Setting(
                    num_streams=setting.num_streams,
                    team_size=setting.team_size,
                    batch_size=setting.batch_size,
                    backend=backend,
                )
                for backend in self.backends
                if backend != setting.backend
            ]
        return found

    def _moved(self, setting: Setting, shape: Shape) -> Setting:
        streams, team = shape
        size = setting.batch_size if self.request_items is None else self._sizes(streams)[0]
        return Setting(
            num_streams=streams, team_size=team, batch_size=size, backend=setting.backend
        )

    def _next_shapes(self, setting: Setting) -> list[Shape]:
        """One step in the streams or the team, alone or with as many cores in use as before."""
        streams, team = setting.num_streams, setting.team_size
        found = [(s, team) for s in _beside([s for s, t in self.shapes if t == team], streams)]
        found += [(streams, t) for t in _beside([t for s, t in self.shapes if s == streams], team)]

        def nearest(options: list[Shape]) -> Shape:
            return min(options, key=lambda shape: abs(shape[0] * shape[1] - streams * team))

        for t in _beside([t for _, t in self.shapes], team):
            found.append(nearest([shape for shape in self.shapes if shape[1] == t]))
        for s in _beside([s for s, _ in self.shapes], streams):
            found.append(nearest([shape for shape in self.shapes if shape[0] == s]))
        return list(dict.fromkeys(found))


def _beside(values: tuple[int, ...] | list[int], value: int) -> list[int]:
    ordered = sorted(set(values))
    index = ordered.index(value)
    return [ordered[i] for i in (index - 1, index + 1) if 0 <= i < len(ordered)]
