"""Broken: what is said of a rule that does not hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RuleBrokenError(Exception):
    """A rule does not hold; ``about`` names the job, model or device concerned."""

    at: float
    rule: str
    text: str
    about: str = ""

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"
