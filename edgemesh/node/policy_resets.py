"""What each option of a policy sets, without anything that takes time to import."""

from __future__ import annotations

from typing import Final

RESETS: Final[dict[str, tuple[str, ...]]] = {
    "accuracy": ("accuracy",),
    "battery-floor": ("battery_floor",),
    "battery-weight": ("battery_weight",),
    "bound": ("bound_factor", "bound_seconds"),
    "codecs": ("codecs",),
    "exclude": ("exclude",),
    "in-flight": ("in_flight",),
    "keep-input": ("keep_input",),
    "mains-weight": ("mains_weight",),
    "max-temperature": ("max_temperature",),
    "objective": ("objective",),
    "pin": ("pins",),
    "price": ("prices",),
    "zone": ("zones",),
}
"""Fields of the policy by the option that sets them, and that ``--reset`` names."""
