"""Treatment files: what a person wrote there counts, or is refused."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from edgemesh.errors import SettingsError
from edgemesh.node.model_import import read_treatment


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[image]\nwidth = 8\nheight = 8\nmeans = [127.5]", "image.means is not known; image has channels, "),
        ("[detection]\n", "detection is not known; it has classes, detections, image, "),
        (
            "[detections]\nboxes = 'b'\nscores = 's'\nanchors = [{rows = 1, columns = 1, count = 1},"
            "{rows = 1, columns = 1, counts = 1}]",
            "detections.anchors[1].counts is not known; detections.anchors[1] has columns, count, rows",
        ),
    ],
)
def test_a_mistyped_key_is_an_error(text: str, said: str, tmp_path: Path) -> None:
    """Found by a reader: the model was added without what they had written."""
    file = tmp_path / "treatment.toml"
    file.write_text(text)

    with pytest.raises(SettingsError) as refused:
        read_treatment(file)

    assert str(refused.value).startswith(f"{file}: {said}")


def test_an_entry_of_the_zoo_is_a_treatment_file() -> None:
    """As the README says."""
    with resources.as_file(resources.files("edgemesh.zoo") / "face.toml") as file:
        assert read_treatment(file).detections is not None
