"""`python -m x2i.emoji STAGE --minutes N`: one stage of the training recipe; the same command goes on."""

import argparse
from importlib import import_module
from pathlib import Path

STAGES = {
    "vae": ("recipe.vae:train", 60.0),
    "text": ("recipe.text:train", 1.0),
    "unet": ("recipe.unet:train", 60.0),
    "decoder": ("recipe.decoder:train", 15.0),
    "xlmr": ("recipe.xlmr:train", 4.0),
    "translators": ("recipe.translators:train", 12.0),
    "t5": ("t5.encoder_stage:train", 9.0),
    "t5_translator": ("t5.translator_stage:train", 22.0),
    "publish": ("recipe.publish:publish_base", 0.0),
    "publish_t5": ("recipe.publish:publish_t5", 0.0),
    "clip": ("recipe.clip:train", 24.0),
    "elite_global": ("elite.global_stage:train", 24.0),
    "elite_local": ("elite.local_stage:train", 33.0),
    "publish_elite": ("recipe.publish:publish_elite", 0.0),
    "publish_clip": ("recipe.publish:publish_clip", 0.0),
    "fastcomposer_objects": ("fastcomposer.objects_stage:train", 7.0),
    "fastcomposer": ("fastcomposer.composer_stage:train", 68.0),
    "publish_fastcomposer": ("recipe.publish:publish_fastcomposer", 0.0),
    "audio": ("recipe.audio:train", 22.0),
    "sound_translator": ("recipe.sound_translator:train", 8.0),
    "publish_sound": ("recipe.publish:publish_sound", 0.0),
    "publish_spoken": ("recipe.publish:publish_spoken", 0.0),
    "tokens": ("tokens.tokenizer_stage:train", 28.0),
    "vq_diffusion": ("tokens.vq_diffusion_stage:train", 20.0),
    "muse": ("tokens.muse_stage:train", 20.0),
    "ddcap": ("tokens.ddcap_stage:train", 12.0),
    "few_step": ("few_steps.lora_stage:train", 9.0),
    "few_step_more": ("few_steps.lora_stage:train_more", 40.0),
    "tiny_vae": ("few_steps.tiny_vae_stage:train", 10.0),
    "publish_few_steps": ("few_steps.publish:publish_few_steps", 0.0),
    "publish_tokens": ("tokens.publish:publish_tokens", 0.0),
}
"""Where each stage is written, and its usual minutes."""


def main() -> None:
    """Trains or publishes the stage that the command line names."""
    parser = argparse.ArgumentParser(prog="x2i.emoji", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=float, help="training time of the stage in all, earlier runs included")
    parser.add_argument("--folder", type=Path, default=Path("build/emoji"), help="where the state files are kept")
    arguments = parser.parse_args()
    place, usual = STAGES[arguments.stage]
    module, _, train = place.partition(":")
    minutes = usual if arguments.minutes is None else arguments.minutes
    getattr(import_module(f".{module}", __package__), train)(arguments.folder, minutes)


if __name__ == "__main__":
    main()
