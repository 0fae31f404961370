"""Pack the best checkpoint of the starter's training into the package: weights in half precision, and what they mean.

    python tools/pack_starter.py runs/starter

`make starter` trains and packs it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file

from mrqm.checkpoint.ancestor import describe_weights
from mrqm.checkpoint.files import CONFIG, METRICS, WEIGHTS
from mrqm.checkpoint.lookup import STARTER_FOLDER, find_checkpoint
from mrqm.config import load_config

ROOT = Path(__file__).parents[1]


def pack(checkpoint: Path, folder: Path) -> None:
    """Write a checkpoint's weights in half precision, without what only its training needed.

    Args:
        checkpoint: folder of the checkpoint.
        folder: destination.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = load_config(checkpoint / CONFIG).data.classes
    config = load_config(ROOT / "configs" / "starter.yaml").with_classes(classes)  # without this machine's paths
    weights = load_file(checkpoint / WEIGHTS)
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_file(halves, folder / WEIGHTS, describe_weights(config))
    (folder / CONFIG).write_text(config.to_yaml())
    (folder / METRICS).write_text((checkpoint / METRICS).read_text())


def main() -> None:
    """Pack the checkpoint that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of the run or checkpoint")
    checkpoint = find_checkpoint(parser.parse_args().run)
    pack(checkpoint, STARTER_FOLDER)
    print(f"{checkpoint} packed: {(STARTER_FOLDER / WEIGHTS).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
