"""Measures what corestream promises, against stock torch, on the machine at hand."""

from __future__ import annotations
