"""What `tune` found, in files: for which machine and model it holds, and what to run there.

Never loads torch. A profile is found by its key (CPU model, CPUs, torch, model structure), and is
refused, with what differs in words, where any of these is another.
"""

from __future__ import annotations

from corestream.profiles.cpu_model import cpu_model
from corestream.profiles.key import ProfileKey
from corestream.profiles.profile import Profile
from corestream.profiles.store import find_profile, load_profile, profiles_folder, save_profile

__all__ = [
    "Profile",
    "ProfileKey",
    "cpu_model",
    "find_profile",
    "load_profile",
    "profiles_folder",
    "save_profile",
]
