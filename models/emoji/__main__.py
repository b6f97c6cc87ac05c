"""`python -m x2i.models.emoji STAGE --minutes N`: one stage of the training recipe; the same command goes on."""

import argparse
from importlib import import_module
from pathlib import Path

STAGES = {
    "vae": 60.0,
    "text": 1.0,
    "unet": 60.0,
    "decoder": 15.0,
    "xlmr": 4.0,
    "translators": 12.0,
    "publish": 0.0,
    "clip": 24.0,
    "elite_global": 24.0,
    "elite_local": 33.0,
    "publish_elite": 0.0,
    "publish_clip": 0.0,
    "fastcomposer_objects": 7.0,
    "fastcomposer": 68.0,
    "publish_fastcomposer": 0.0,
    "audio": 22.0,
    "sound_translator": 8.0,
    "publish_sound": 0.0,
    "publish_spoken": 0.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="x2i.models.emoji", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=float, help="training time of the stage in all, earlier runs included")
    parser.add_argument("--folder", type=Path, default=Path("build/emoji"), help="where the state files are kept")
    arguments = parser.parse_args()
    minutes = STAGES[arguments.stage] if arguments.minutes is None else arguments.minutes
    import_module(f".{arguments.stage}", __package__).train(arguments.folder, minutes)


if __name__ == "__main__":
    main()
