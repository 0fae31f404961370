from __future__ import annotations

import itertools
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrqm.config import Config, make_config
from mrqm.data import DetectionDataset, build_dataset, build_loader, collate
from mrqm.data.loading.dataset import Sample
from mrqm.data.loading.loader import TrainingSampler
from mrqm.structures.annotations import DataError
from mrqm.structures.batch import Batch

from ..conftest import WriteVisDrone

ROW = "20,30,40,10,1,4,0,0\n"
AUGMENT = {"horizontal_flip": 0.5, "scale_jitter": (0.8, 1.2), "color_jitter": 0.4}


def sample(height: int, width: int, objects: int = 1) -> Sample:
    image = torch.full((3, height, width), 7, dtype=torch.uint8)
    return image, {"boxes": torch.rand(objects, 4), "image_id": torch.tensor(height * width)}


def configure(root: Path, batch_size: int = 2, workers: int = 0, **train: Any) -> Config:
    data = {"root": root, "train": "train", "val": "val", "loader_workers": workers, "augment": AUGMENT}
    return make_config({
        "data": data, "train": {"batch_size": batch_size} | train, "evaluation": {"batch_size": 3}
    })  # fmt: skip


def ids(batches: list[Batch]) -> list[list[int]]:
    return [[int(target["image_id"]) for target in targets] for _, _, targets in batches]


def names(count: int) -> dict[str, str]:
    return {f"{number:02}": ROW for number in range(count)}


# ----------------------------------------------------------------------------------------------------- collate


def test_images_of_one_fitting_size_need_no_mask() -> None:
    images, masks, targets = collate([sample(64, 96), sample(64, 96)])
    assert (images.shape, images.dtype) == ((2, 3, 64, 96), torch.uint8)
    assert masks is None
    assert len(targets) == 2


def test_batches_are_padded_right_and_bottom_to_a_multiple_of_32() -> None:
    images, masks, _ = collate([sample(40, 60), sample(50, 33)])
    assert images.shape == (2, 3, 64, 64)
    assert masks is not None
    assert (masks.shape, masks.dtype) == ((2, 64, 64), torch.bool)
    for image, mask, (height, width) in zip(images, masks, [(40, 60), (50, 33)], strict=True):
        assert (image[:, :height, :width] == 7).all()
        assert image.sum() == 7 * 3 * height * width
        assert not mask[:height, :width].any()
        assert (~mask).sum() == height * width


def test_images_of_one_size_that_does_not_fit_are_masked() -> None:
    images, masks, _ = collate([sample(40, 64)])
    assert images.shape == (1, 3, 64, 64)
    assert masks is not None


def test_images_that_did_not_decode_are_left_out() -> None:
    images, _, targets = collate([None, sample(32, 32)])
    assert len(images) == len(targets) == 1


# ----------------------------------------------------------------------------------------------------- sampler


def order(
    rank: int = 0, world_size: int = 1, epoch: int = 0, length: int = 23, step: int = 4, seed: int = 0
) -> list[int]:
    return [index for batch in sampled(rank, world_size, epoch, length, step, seed) for index in batch]


def sampled(
    rank: int = 0, world_size: int = 1, epoch: int = 0, length: int = 23, step: int = 4, seed: int = 0, parts: int = 1
) -> list[list[int]]:
    sampler = TrainingSampler(
        np.arange(length), length, step_size=step, parts=parts, seed=seed, rank=rank, world_size=world_size
    )
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    assert {draw.epoch for batch in found for draw in batch} == {epoch}
    return [[draw.item for draw in batch] for batch in found]


def test_ranks_partition_the_epoch_of_a_single_rank() -> None:
    ranks = [order(rank, 2) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == 10
    assert sorted(ranks[0] + ranks[1]) == sorted(order())
    assert len(set(order())) == 20


def test_ranks_together_see_the_same_steps_as_one_rank() -> None:
    ranks, single = [order(rank, 2) for rank in range(2)], order()
    for step in range(5):
        together = ranks[0][2 * step : 2 * step + 2] + ranks[1][2 * step : 2 * step + 2]
        assert sorted(together) == sorted(single[4 * step : 4 * step + 4])


def test_epochs_and_seeds_have_their_own_orders() -> None:
    assert order() == order()
    assert order(epoch=1) != order()
    assert order(seed=1) != order()


def test_images_take_turns_in_pools() -> None:
    images = np.repeat(np.arange(6), 4)
    sampler = TrainingSampler(images, 2, step_size=4, parts=1, seed=0, rank=0, world_size=1)
    sequence = [draw.item for batch in sampler for draw in batch]
    pools = [images[sequence[start : start + 8]] for start in (0, 8, 16)]
    assert [len(set(pool)) for pool in pools] == [2, 2, 2]
    assert set(np.concatenate(pools)) == set(range(6))
    assert any((np.diff(pool) != 0).sum() > 1 for pool in pools), "shuffled within a pool"


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("parts", [1, 2])
def test_any_number_of_ranks_sees_the_same_batches_together(ranks: int, parts: int) -> None:
    shares = [sampled(rank, ranks, step=8, parts=parts) for rank in range(ranks)]
    together = [sorted(itertools.chain(*batches)) for batches in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in sampled(step=8, parts=parts)]
    assert all(batch for share in shares for batch in share)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_an_epoch_goes_on_with_any_number_of_ranks(ranks: int) -> None:
    def rest(rank: int) -> list[int]:
        sampler = TrainingSampler(np.arange(23), 23, step_size=4, parts=1, seed=0, rank=rank, world_size=ranks)
        sampler.set_epoch(0, begin=8)
        return [draw.item for batch in sampler for draw in batch]

    assert sorted(order()[8:]) == sorted(index for rank in range(ranks) for index in rest(rank))


@pytest.mark.parametrize(("begin", "final"), [(0, [False, False, False, True, True]), (8, [False, True, True])])
def test_batches_tell_whether_they_lie_in_the_final_part(begin: int, final: list[bool]) -> None:
    sampler = TrainingSampler(np.arange(23), 23, step_size=4, parts=1, seed=0, rank=0, world_size=1)
    sampler.set_epoch(3, begin, lambda epoch_share: epoch_share >= 0.55)
    assert [{draw.final for draw in batch} for batch in sampler] == [{value} for value in final]
    sampler.set_epoch(4)
    assert not any(draw.final for batch in sampler for draw in batch)


def test_every_item_has_its_turn() -> None:
    assert {index for epoch in range(10) for index in order(epoch=epoch)} == set(range(23))


def test_less_data_than_a_step_needs_is_refused() -> None:
    with pytest.raises(DataError, match=r"3 training items are fewer than one step takes \(4\).*train\.batch_size"):
        order(length=3)


# ------------------------------------------------------------------------------------------------------ loader


def flatten(batches: list[Batch]) -> list[Tensor]:
    return [
        tensor
        for images, masks, targets in batches
        for tensor in (images, *([] if masks is None else [masks]), *(v for target in targets for v in target.values()))
    ]


def epochs(config: Config, dataset: DetectionDataset, numbers: tuple[int, ...]) -> list[list[Tensor]]:
    loader = build_loader(config, dataset, training=True)
    batches = []
    for number in numbers:
        loader.set_epoch(number)
        batches.append(flatten(list(loader)))
    return batches


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_worker_processes_change_nothing_and_see_the_epoch(write_visdrone: WriteVisDrone) -> None:
    root = write_visdrone(names(8)).parent
    dataset = build_dataset(configure(root), "train")
    alone = epochs(configure(root), dataset, (0, 1))
    beside = epochs(configure(root, workers=2), dataset, (1, 0, 1))
    assert not same(alone[0], alone[1])
    assert same(beside[0], alone[1])
    assert same(beside[1], alone[0])
    assert same(beside[2], alone[1])
    assert [tensor.dtype for tensor in beside[1]] == [tensor.dtype for tensor in alone[0]]


def test_training_batches_fill_every_accumulated_part(write_visdrone: WriteVisDrone) -> None:
    root = write_visdrone(names(11)).parent
    config = configure(root, batch_size=4, gradient_accumulation_steps=2)
    loader = build_loader(config, build_dataset(config, "train"), training=True)
    assert len(loader) == 4
    assert [len(batch) for batch in ids(list(loader))] == [2, 2, 2, 2]


def test_loading_leaves_the_global_random_numbers_alone(write_visdrone: WriteVisDrone) -> None:
    config = configure(write_visdrone(names(4)).parent)
    loader = build_loader(config, build_dataset(config, "train"), training=True)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_splits_every_item_over_the_ranks_in_order(write_visdrone: WriteVisDrone) -> None:
    config = configure(write_visdrone(names(8), split="val").parent)
    dataset = build_dataset(config, "val")
    ranks = [ids(list(build_loader(config, dataset, training=False, rank=rank, world_size=3))) for rank in range(3)]
    assert ranks == [[[0, 3, 6]], [[1, 4, 7]], [[2, 5]]]


def test_a_rank_without_an_item_evaluates_nothing(write_visdrone: WriteVisDrone) -> None:
    config = configure(write_visdrone(names(1), split="val").parent, workers=1)
    loader = build_loader(config, build_dataset(config, "val"), training=False, rank=1, world_size=2)
    assert list(loader) == []


def test_batches_without_a_readable_image_are_passed_over(write_visdrone: WriteVisDrone) -> None:
    folder = write_visdrone(names(5), split="val", suffix=".jpg")
    for name in ("00", "01", "02", "03"):
        path = folder / "images" / f"{name}.jpg"
        path.write_bytes(path.read_bytes()[:-20])
    values = configure(folder.parent).model_dump()
    values["data"]["max_unreadable"] = 4
    config = make_config(values)
    assert ids(list(build_loader(config, build_dataset(config, "val"), training=False))) == [[4]]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_one_clear_message(write_visdrone: WriteVisDrone, workers: int) -> None:
    folder = write_visdrone(names(2), suffix=".jpg")
    for path in (folder / "images").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    config, before = configure(folder.parent, workers=workers), set(multiprocessing.active_children())
    with pytest.raises(DataError) as caught:
        list(build_loader(config, build_dataset(config, "train"), training=True))
    message = str(caught.value)
    assert "Traceback" not in message
    assert "\n" not in message
    assert message.startswith(str(folder))
    assert set(multiprocessing.active_children()) <= before


class _Threads(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return torch.get_num_threads()


def test_worker_processes_compute_with_one_thread() -> None:
    threads, *_ = torch.utils.data.DataLoader(_Threads(), num_workers=1)
    assert threads.tolist() == [1]


@pytest.mark.parametrize(
    "changes",
    [{"scale_jitter": (1, 1)}, {"scale_jitter": (0.5, 1.5)}, {"quarter_turns": 1, "mosaic": 0.5, "mixup": 0.5}],
)
def test_a_compiled_training_gets_images_of_one_size(
    changes: dict[str, Any], tmp_path: Path, write_visdrone: WriteVisDrone
) -> None:
    for number, size in enumerate([(40, 90), (90, 40), (64, 64), (50, 61)]):
        write_visdrone({f"{number:02}": "5,5,20,20,1,4,0,0\n"}, size=size)
    config = configure(tmp_path, batch_size=1)
    augment = config.data.augment.model_copy(update=changes)
    config = config.model_copy(update={"data": config.data.model_copy(update={"augment": augment})})
    compiled = config.model_copy(update={"model": config.model.model_copy(update={"compile": True})})
    dataset = build_dataset(config, "train")
    assert len({images.shape for images, _, _ in build_loader(config, dataset, training=True)}) > 1
    padded = list(build_loader(compiled, dataset, training=True))
    assert len({images.shape for images, _, _ in padded}) == 1
    for images, masks, targets in padded:
        assert masks is not None and masks.shape[1:] == images.shape[2:]
        assert (~masks).sum() == targets[0]["size"].prod()
        assert not images.permute(0, 2, 3, 1)[masks].any()
