"""Finding the cgroup folders that limit this process, in cgroup v1 and v2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from corestream.cpu.system_files import SystemFiles

MEMBERSHIP = "proc/self/cgroup"
MOUNTS = "proc/self/mountinfo"
DEFAULT_MOUNT = "sys/fs/cgroup"

Controller = Literal["cpu", "cpuset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupFolder:
    """One folder of a cgroup hierarchy, relative to the root; version 1 or 2."""

    version: Literal[1, 2]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    version: Literal[1, 2]
    path: str
    shown: str
    """The cgroup that the mount shows as its root: a container sees only its own subtree."""
    controllers: frozenset[str]


def cgroup_folders(files: SystemFiles, controller: Controller) -> list[CgroupFolder]:
    """Return the folders of this process's cgroup and its ancestors, innermost first.

    In a container the membership file may name a path of the host that the container cannot
    see, or `/`; the mount's own top folder is then the container's cgroup.

    Args:
        files: The machine.
        controller: `cpu` or `cpuset`.

    Returns:
        Folders of the v2 hierarchy, then of the controller's v1 hierarchy; a hierarchy that is
        not mounted gives none.
    """
    membership = _read_membership(files)
    mounts = [mount for mount in _read_mounts(files) if files.is_folder(mount.path)]
    v2 = [mount for mount in mounts if mount.version == 2]
    v1 = [mount for mount in mounts if mount.version == 1 and controller in mount.controllers]
    return _folders_of(files, v2, member=membership.get("", "/")) + _folders_of(
        files, v1, member=membership.get(controller, "/")
    )


def _read_membership(files: SystemFiles) -> dict[str, str]:
    """Return the cgroup path by controller; the v2 hierarchy's is under the empty name."""
    paths: dict[str, str] = {}
    for line in (files.read(MEMBERSHIP, expected=True) or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" or controllers:
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _read_mounts(files: SystemFiles) -> list[_Mount]:
    text = files.read(MOUNTS)
    mounts = [_parse_mount(line) for line in (text or "").splitlines()]
    return [mount for mount in mounts if mount] or list(_guess_mounts(files))


def _parse_mount(line: str) -> _Mount | None:
    left, separator, right = line.partition(" - ")
    before, after = left.split(" "), right.split(" ")
    if not separator or len(before) < 5 or len(after) < 3 or after[0] not in ("cgroup", "cgroup2"):
        return None
    path = _unescape(before[4]).strip("/")
    if ".." in path.split("/"):
        return None
    return _Mount(
        version=2 if after[0] == "cgroup2" else 1,
        path=path,
        shown=_unescape(before[3]),
        controllers=frozenset(after[2].split(",")),
    )


def _unescape(text: str) -> str:
    # mountinfo writes space, tab, newline and backslash as \040 and the like (proc(5)).
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _guess_mounts(files: SystemFiles) -> Iterator[_Mount]:
    """Yield the usual mounts, for a sandbox that has cgroups but hides its mount table."""
    if files.read(f"{DEFAULT_MOUNT}/cgroup.controllers") is not None:
        yield _Mount(version=2, path=DEFAULT_MOUNT, shown="/", controllers=frozenset())
        return
    for name in files.names(DEFAULT_MOUNT):
        controllers = frozenset(name.split(","))
        if controllers & {"cpu", "cpuset"}:
            yield _Mount(
                version=1, path=f"{DEFAULT_MOUNT}/{name}", shown="/", controllers=controllers
            )


def _folders_of(files: SystemFiles, mounts: list[_Mount], *, member: str) -> list[CgroupFolder]:
    """Return the folders of `member` in one hierarchy, innermost first, the mount's top last."""
    if not mounts:
        return []
    # A mount that does not show this process's cgroup may show another container's; one that
    # shows more of the tree shows more ancestors.
    showing = [mount for mount in mounts if _is_within(member, mount.shown)]
    mount = min(showing, key=lambda mount: len(mount.shown), default=mounts[0])
    inside = member.removeprefix(mount.shown.rstrip("/")) if showing else member
    parts = [part for part in inside.split("/") if part]
    if ".." in parts or not files.is_folder("/".join([mount.path, *parts])):
        parts = []
    return [
        CgroupFolder(version=mount.version, path="/".join([mount.path, *parts[:depth]]))
        for depth in range(len(parts), -1, -1)
    ]


def _is_within(path: str, ancestor: str) -> bool:
    return f"{path}/".startswith(f"{ancestor.rstrip('/')}/")
