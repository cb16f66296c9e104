"""How ``edgemesh infer`` goes through its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgemesh.cli.infer import _line, _outcomes, _plain
from edgemesh.errors import DecodeError, UnknownModelError
from edgemesh.node.prepared_job import Result
from edgemesh.protocol.activation import Hop


class Removed:
    """A client whose model is taken out of the mesh before the second input."""

    def __init__(self) -> None:
        self.begun = 0

    def begin(self, model: str, payload: bytes, stream: str | None) -> Any:
        self.begun += 1
        if self.begun > 1:
            raise UnknownModelError("no model face")
        return self

    def result(self) -> Result:
        return Result("face", 0.05, (Hop("pi-4b", 58),), (), 1, 0.05)


def test_a_model_that_is_gone_is_asked_for_once(tmp_path: Path) -> None:
    """Found by a reader: every other input of a folder waited 3 s for it."""
    (tmp_path / "a.png").touch()
    client: Any = Removed()

    ended = list(_outcomes(client, "face", [str(tmp_path / "a.png")] * 9, latest=False))

    assert [outcome.error is None for outcome in ended] == [True] + [False] * 8
    assert {str(outcome.error) for outcome in ended[1:]} == {"no model face"}
    assert client.begun == 2


@pytest.mark.parametrize("alone", [True, False])
def test_a_result_that_a_device_made_without_the_broker_says_so(alone: bool) -> None:
    result = Result("face", 0.05, (Hop("pi-4b", 58),), (), 1, 0.05, alone=alone)

    line, plain = _line("a.png", result, []), _plain("a.png", result, None, [])

    assert ("without the broker: all of it ran on pi-4b" in line) is alone
    assert plain["alone"] is alone


def test_outputs_of_another_shape_fail_their_input_alone(tmp_path: Path) -> None:
    """Found by a reader: they are worked out when they are printed, and that ended the program."""
    (tmp_path / "a.png").touch()

    def rendered(section: Any) -> dict[str, Any]:
        raise DecodeError("outputs are (1,), the manifest says (2,)")

    class Strange:
        def begin(self, model: str, payload: bytes, stream: str | None) -> Any:
            return self

        def result(self) -> Result:
            return Result("face", 0.05, (Hop("pi-4b", 58),), (), 1, 0.05, _render=rendered)

    client: Any = Strange()

    ended = list(_outcomes(client, "face", [str(tmp_path / "a.png")] * 2, latest=False))

    assert [str(outcome.error) for outcome in ended] == ["outputs are (1,), the manifest says (2,)"] * 2
    assert [outcome.result for outcome in ended] == [None, None]
