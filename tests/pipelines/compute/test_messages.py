import dataclasses

import pytest

from pipelines.compute.messages import LogMessage


def test_messages_are_plain_and_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LogMessage("a").text = "b"  # type: ignore[misc]
