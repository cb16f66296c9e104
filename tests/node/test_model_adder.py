"""What was measured of a model outlives adding the same model again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgemesh.node.model_adder import with_kept_figures
from edgemesh.protocol.accuracy import CodecErrors
from edgemesh.simulation.models import made_up_model

PLAIN, _ = made_up_model()
CUTS = PLAIN.unit_count + 1
FIGURES = (CodecErrors("q8", (0.001,) * CUTS, (0.1,) * CUTS, (None,) * CUTS, 8),)
MEASURED = replace(PLAIN, codec_errors=FIGURES)


def test_the_same_model_added_again_keeps_its_figures() -> None:
    assert with_kept_figures(PLAIN, MEASURED) == MEASURED


def test_the_number_of_a_manifest_says_nothing_of_its_figures() -> None:
    assert with_kept_figures(PLAIN, replace(MEASURED, revision=7)) == MEASURED


@pytest.mark.parametrize(
    ("before", "seconds", "revision"), [(None, 1000.9, 1000), (5, 1000.0, 1000), (5000, 1000.0, 5001)]
)
def test_a_manifest_that_is_published_is_newer_than_all_before_it(
    before: int | None, seconds: float, revision: int
) -> None:
    """By the time, and where a clock is behind by one."""
    known = None if before is None else replace(PLAIN, revision=before)

    assert PLAIN.revised(known, seconds) == replace(PLAIN, revision=revision)


def test_other_content_other_cuts_or_another_name_keep_nothing() -> None:
    other, _ = made_up_model("other")
    fewer, _ = made_up_model(cut_bytes=(48_000, 64_000, 256))

    for manifest in (other, fewer):
        assert with_kept_figures(manifest, MEASURED) == manifest
    assert with_kept_figures(PLAIN, None) == PLAIN


def test_newer_figures_are_not_replaced_by_older_ones() -> None:
    newer = replace(PLAIN, codec_errors=(replace(FIGURES[0], samples=99),))

    assert with_kept_figures(newer, MEASURED) == newer
