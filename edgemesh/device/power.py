"""Watts of a device. For now a model; power meters will be read here too."""

from __future__ import annotations

from edgemesh.device.boards import Board


def modelled_watts(board: Board, cpu: float) -> float | None:
    """Watts of ``board`` at the fraction ``cpu`` of all its cores; None when its figures are unknown.

    Linear between idle and all cores busy. By processor and network utilisation alone a Raspberry Pi was
    predicted within 3.3 % RMSE (PowerPi, LCN 2014); across meters and steppings the two ends themselves
    differ by up to 1.7 times, so this is a model's figure and never a measurement.
    """
    if board.idle_watts is None or board.busy_watts is None:
        return None
    return board.idle_watts + (board.busy_watts - board.idle_watts) * min(max(cpu, 0.0), 1.0)
