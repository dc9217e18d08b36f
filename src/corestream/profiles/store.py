"""Profiles in files: written at once or not at all, and found by their key."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from corestream.profiles.key import ProfileKey
from corestream.profiles.profile import Profile

_SUFFIX = ".json"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class Found:
    """What a search brought.

    Attributes:
        profile: The one that matches; None if there is none.
        notes: Files that were left out, and why, in words.
    """

    profile: Profile | None
    notes: tuple[str, ...] = ()


def profiles_folder() -> Path:
    """Where the user's profiles are.

    What is measured can be measured again, so they lie with the caches.

    Returns:
        ``$XDG_CACHE_HOME/corestream/profiles``, or ``~/.cache/corestream/profiles``.

    Raises:
        RuntimeError: The user has no home folder, and the variable is not set.

    Example:
        >>> profiles_folder().name
        'profiles'

    Thread-safe; holds the GIL.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules: a path that is not absolute is to be ignored.
    root = Path(home) if home.startswith("/") else Path.home() / ".cache"
    return root / "corestream" / "profiles"


def save_profile(profile: Profile, path: str | os.PathLike[str] | None = None) -> Path:
    """Writes a profile, in place of an earlier one with the same key.

    Args:
        profile: What `tune` found.
        path: The file; None: one in :func:`profiles_folder`, where "AUTO" finds it.

    Returns:
        The file.

    Raises:
        OSError: It cannot be written.

    Example:
        >>> import tempfile
        >>> key = ProfileKey(cpu_model="A", cpus="0-3", torch="2.13.0", model="ab")
        >>> profile = Profile(
        ...     key=key, objective="throughput", num_streams=2, team_size=2, batch_size=8,
        ...     backend="torchscript", is_stock_best=False, verdict="", made="",
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     load_profile(save_profile(profile, folder + "/mine.json")) == profile
        True

    Thread-safe, and safe beside other processes; holds the GIL, except inside the writes.
    """
    target = profiles_folder() / _file_name(profile.key) if path is None else Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(profile.to_dict(), indent=1, ensure_ascii=False) + "\n"
    with tempfile.NamedTemporaryFile(
        "w", dir=target.parent, prefix=_UNFINISHED, encoding="utf-8", delete=False
    ) as file:
        unfinished = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    return target


def load_profile(path: str | os.PathLike[str]) -> Profile:
    """Reads one profile.

    Args:
        path: The file.

    Returns:
        The profile; whether it holds here is the caller's question.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no profile, or damaged; the text says what is wrong.

    Example:
        >>> load_profile("/proc/version")
        Traceback (most recent call last):
        ValueError: path must be a profile that tune() wrote; got '/proc/version': ...

    Thread-safe; holds the GIL, except inside the read.
    """
    try:
        return Profile.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:  # not JSON, not UTF-8, or no profile
        raise ValueError(
            f"path must be a profile that tune() wrote; got {os.fspath(path)!r}: {error}"
        ) from error


def find_profile(key: ProfileKey, *, folder: Path | None = None) -> Found:
    """The profile that was saved for a machine and model.

    Args:
        key: Of this machine and model.
        folder: Where to look; None: :func:`profiles_folder`.

    Returns:
        The profile, or why there is none: files for the same model that do not hold here, or
        that cannot be read, are named in the notes and left alone.

    Example:
        >>> key = ProfileKey(cpu_model="A", cpus="0-3", torch="2.13.0", model="ab")
        >>> find_profile(key, folder=Path("/nonexistent")).profile is None
        True

    Thread-safe; holds the GIL, except inside the reads.
    """
    notes: list[str] = []
    try:
        folder = profiles_folder() if folder is None else folder
        names = sorted(entry.name for entry in folder.iterdir())
    except (OSError, RuntimeError):  # no folder, or no home
        return Found(None)
    exact = _file_name(key)
    names = [exact] * (exact in names) + [
        name for name in names if name.startswith(_model_prefix(key)) and name != exact
    ]
    for name in names:
        try:
            profile = load_profile(folder / name)
        except (OSError, ValueError) as error:
            notes.append(f"ignored {folder / name}: {error}")
            continue
        differences = profile.key.differences(key)
        if not differences:
            return Found(profile, tuple(notes))
        notes.append(f"refused {folder / name}: {'; '.join(differences)}")
    return Found(None, tuple(notes))


def _model_prefix(key: ProfileKey) -> str:
    return f"{key.model[:16]}-"


def _file_name(key: ProfileKey) -> str:
    return f"{_model_prefix(key)}{key.digest()}{_SUFFIX}"
