"""What was measured of a model outlives adding the same model again."""

from __future__ import annotations

from dataclasses import replace

from edgemesh.node.model_adder import with_kept_figures
from edgemesh.protocol.accuracy import CodecErrors
from edgemesh.simulation.models import made_up_model

PLAIN, _ = made_up_model()
CUTS = PLAIN.unit_count + 1
FIGURES = (CodecErrors("q8", (0.001,) * CUTS, (0.1,) * CUTS, (None,) * CUTS, 8),)
MEASURED = replace(PLAIN, codec_errors=FIGURES)


def test_the_same_model_added_again_keeps_its_figures() -> None:
    assert with_kept_figures(PLAIN, MEASURED) == MEASURED


def test_other_content_other_cuts_or_another_name_keep_nothing() -> None:
    other, _ = made_up_model("other")
    fewer, _ = made_up_model(cut_bytes=(48_000, 64_000, 256))

    for manifest in (other, fewer):
        assert with_kept_figures(manifest, MEASURED) == manifest
    assert with_kept_figures(PLAIN, None) == PLAIN


def test_newer_figures_are_not_replaced_by_older_ones() -> None:
    newer = replace(PLAIN, codec_errors=(replace(FIGURES[0], samples=99),))

    assert with_kept_figures(newer, MEASURED) == newer
