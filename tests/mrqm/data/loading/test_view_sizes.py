from __future__ import annotations

from mrqm.config import make_config
from mrqm.data import build_dataset
from mrqm.data.loading.view_sizes import largest_view, view_sizes

from ..conftest import WriteVisDrone


def test_quarter_turns_make_views_of_either_orientation(write_visdrone: WriteVisDrone) -> None:
    root = write_visdrone({"a": "2,2,9,9,1,1,0,0"}, size=(64, 128)).parent
    config = make_config({"data": {"root": root, "train": "train", "augment": {"quarter_turns": 0.5}}})
    data = build_dataset(config, "train")
    assert view_sizes(config, data) == {(64, 128), (128, 64)}
    assert largest_view(config, data) == (128, 128)
    seen = {tuple(sample[0].shape[1:]) for epoch in range(20) if (sample := data[epoch, 0]) is not None}
    assert seen == {(64, 128), (128, 64)}
