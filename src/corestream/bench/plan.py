"""What will be measured, decided before anything runs: modes, contenders, loads, cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corestream.cpu.pool import CPUPool

MODES = ("offline", "realtime")
EXTRA_CONTENDERS = ("threads", "instances", "compile")
BACKENDS = ("auto", "aotinductor", "torchscript", "eager")
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEFAULT_CORES_PER_STREAM = 4
DEFAULT_BATCH_SIZE = 32
DEFAULT_LOAD = 0.7

STOCK, OURS = "stock", "corestream"


@dataclass(frozen=True)
class Options:
    """What a user may ask of a benchmark; None: decided for him.

    Attributes:
        modes: Of `MODES`.
        also: Contenders beside stock and corestream, of `EXTRA_CONTENDERS`.
        users: Numbers of users of the closed loops.
        rate_per_s: Requests per second of the open loop.
        load: The same as a share of what stock answers at most, as measured; 0: no open loop.
        batch_size: Items of a call in offline mode; None: as the inputs have it, or 32 if it is 1.
        cores_per_stream: Cores of a stream or instance in realtime mode; None: 4, or all.
        num_streams: Streams; None: "AUTO" offline, as many as there is room for in realtime mode.
        backend: How `lower` lowers.
        dtype: What the lowered model computes in, by name; None: as the model does.
        tolerance: How far answers may be from stock's; None: what rounding in the dtype allows.
        budget_s: Seconds for all, loading and lowering included.
        rounds: Turns of each contender for each load at most.
        seed: Of weights, inputs and arrivals.

    A value: threads may share it.
    """

    modes: tuple[str, ...] = MODES
    also: tuple[str, ...] = ()
    users: tuple[int, ...] | None = None
    rate_per_s: float | None = None
    load: float | None = None
    batch_size: int | None = None
    cores_per_stream: int | None = None
    num_streams: int | None = None
    backend: str = "auto"
    dtype: str | None = None
    tolerance: float | None = None
    budget_s: float = 60.0
    rounds: int = 7
    seed: int = 0


@dataclass(frozen=True)
class Contender:
    """One way to run the model.

    Attributes:
        name: "stock", "corestream", or one of `EXTRA_CONTENDERS`.
        label: What it is, in words.
        slices: The cores that each of its processes is pinned to as a whole, empty for one that is
            not pinned; one process for each.
        num_threads: Intra-op threads to set; None: torch's own choice.

    A value: threads may share it.
    """

    name: str
    label: str
    slices: tuple[tuple[int, ...], ...] = ((),)
    num_threads: int | None = None


@dataclass(frozen=True)
class Load:
    """One kind of load.

    Attributes:
        users: Users of a closed loop; None: an open loop.
        rate_per_s: Requests per second of an open loop; None: `share` of stock's capacity.
        share: That share.

    Example:
        >>> Load(users=4).label, Load(share=0.7).label, Load(rate_per_s=20).label
        ('4 users', '70 % load', '20 requests/s')

    A value: threads may share it.
    """

    users: int | None = None
    rate_per_s: float | None = None
    share: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests arrive whether or not the last ones are answered."""
        return self.users is None

    @property
    def label(self) -> str:
        """What tables call it."""
        if self.users is not None:
            return "1 user" if self.users == 1 else f"{self.users} users"
        if self.share is not None:
            return f"{self.share:.0%} load".replace("%", " %")
        return f"{self.rate_per_s:g} requests/s"


@dataclass(frozen=True)
class Plan:
    """One mode of a benchmark.

    Attributes:
        mode: "offline" or "realtime".
        core_ids: The cores that corestream's streams own; stock has all that are allowed.
        num_streams: None: "AUTO".
        team_size: Cores of a stream in realtime mode.
        batch_size: Items of a call; None: as the inputs have it, or 32 if that is 1.
        contenders: Who is measured; stock is the first, corestream the second.
        loads: By what, closed loops first.

    A value: threads may share it.
    """

    mode: str
    core_ids: tuple[int, ...]
    num_streams: int | None
    team_size: int
    batch_size: int | None
    contenders: tuple[Contender, ...]
    loads: tuple[Load, ...]

    @property
    def num_turns(self) -> int:
        """Turns of a round."""
        return len(self.contenders) * len(self.loads)


def make_plans(options: Options, *, pool: CPUPool) -> list[Plan]:
    """One plan for each mode that is asked for.

    Args:
        options: What the user asked for.
        pool: The cores.

    Raises:
        ValueError: An option is out of range, or does not go with another.
    """
    _check(options, num_cores=len(pool))
    makers = {"offline": _offline, "realtime": _realtime}
    return [makers[mode](options, pool) for mode in MODES if mode in options.modes]


def _offline(options: Options, pool: CPUPool) -> Plan:
    """One call at a time, with a large batch, on all cores."""
    core_ids = tuple(pool.core_ids)
    contenders = _contenders(options, core_ids=core_ids, team_size=len(core_ids), num_instances=1)
    loads = [Load(users=count) for count in options.users or (1,)]
    if options.rate_per_s or options.load:
        loads.append(_open_load(options))
    return Plan(
        mode="offline",
        core_ids=core_ids,
        num_streams=options.num_streams,
        team_size=len(core_ids) // (options.num_streams or len(core_ids)),
        batch_size=options.batch_size,
        contenders=contenders,
        loads=tuple(loads),
    )


def _realtime(options: Options, pool: CPUPool) -> Plan:
    """Requests of one item each, on streams or instances of a few cores."""
    team_size = options.cores_per_stream
    if team_size is None:
        room = len(pool) // options.num_streams if options.num_streams else len(pool)
        team_size = min(DEFAULT_CORES_PER_STREAM, room)
    num_streams = options.num_streams or len(pool) // team_size
    core_ids = tuple(pool.core_ids[: num_streams * team_size])
    contenders = _contenders(
        options, core_ids=core_ids, team_size=team_size, num_instances=num_streams
    )
    users = options.users or sorted({1, num_streams, 4 * num_streams})
    loads = [Load(users=count) for count in users]
    if options.rate_per_s or options.load != 0:
        loads.append(_open_load(options))
    return Plan(
        mode="realtime",
        core_ids=core_ids,
        num_streams=num_streams,
        team_size=team_size,
        batch_size=1,
        contenders=contenders,
        loads=tuple(loads),
    )


def _open_load(options: Options) -> Load:
    if options.rate_per_s is not None:
        return Load(rate_per_s=options.rate_per_s)
    return Load(share=options.load or DEFAULT_LOAD)


def _contenders(
    options: Options, *, core_ids: Sequence[int], team_size: int, num_instances: int
) -> tuple[Contender, ...]:
    slices = tuple(
        tuple(core_ids[index * team_size : (index + 1) * team_size])
        for index in range(num_instances)
    )
    plural = "s" if num_instances > 1 else ""
    every = {
        STOCK: Contender(STOCK, "stock torch, unpinned, its own number of threads"),
        OURS: Contender(OURS, "corestream, on pinned streams"),
        "threads": Contender(
            "threads", f"stock torch with set_num_threads({team_size})", num_threads=team_size
        ),
        "instances": Contender(
            "instances",
            f"{num_instances} process{'es' if plural else ''} of stock torch, pinned to "
            f"{team_size} core{'s' if team_size > 1 else ''} each",
            slices=slices,
            num_threads=team_size,
        ),
        "compile": Contender("compile", "torch.compile, unpinned, its own number of threads"),
    }
    names = [STOCK, OURS, *(name for name in EXTRA_CONTENDERS if name in options.also)]
    return tuple(every[name] for name in names)


def _check(options: Options, *, num_cores: int) -> None:
    for parameter, values, known in (
        ("mode", options.modes, MODES),
        ("also", options.also, EXTRA_CONTENDERS),
        ("backend", (options.backend,), BACKENDS),
        ("dtype", () if options.dtype is None else (options.dtype,), DTYPES),
    ):
        for value in values:
            _require(
                value in known,
                f"{parameter} must be one of {', '.join(known)}; got {value!r}; write one of these",
            )
    counts = {"users": options.users or (), "rounds": (options.rounds,)}
    for parameter in ("batch_size", "cores_per_stream", "num_streams"):
        value = getattr(options, parameter)
        counts[parameter] = () if value is None else (value,)
    for parameter, numbers in counts.items():
        for number in numbers:
            _require(
                number >= 1,
                f"{parameter} must be at least 1; got {number}; leave it out for the default",
            )
    for parameter in ("cores_per_stream", "num_streams"):
        value = getattr(options, parameter)
        _require(
            value is None or value <= num_cores,
            f"{parameter} must be at most {num_cores}, the cores that this process may use; got "
            f"{value}; see corestream topo",
        )
    needed = (options.cores_per_stream or 1) * (options.num_streams or 1)
    _require(
        needed <= num_cores,
        f"num_streams must leave each stream its cores; got {options.num_streams} streams of "
        f"{options.cores_per_stream} cores for {num_cores}; ask for fewer",
    )
    _require(options.budget_s > 0, f"budget_s must be above 0; got {options.budget_s}; try 60")
    _require(
        options.rate_per_s is None or options.rate_per_s > 0,
        f"rate must be above 0; got {options.rate_per_s}; leave it out for no given rate",
    )
    _require(
        options.load is None or 0 <= options.load < 1,
        f"load must be from 0 to below 1, a share of what stock answers at most; got "
        f"{options.load}; try 0.7, or 0 for no open loop",
    )


def _require(is_right: bool, message: str) -> None:
    if not is_right:
        raise ValueError(message)
