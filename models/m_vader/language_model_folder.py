"""The language model from its folder, by transformers' names of GPT-J, or by those of a released MAGMA."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import refuse
from ..readers.config_reader import ConfigReader
from ..readers.loading import Load, build_module
from ..readers.tensors import read_tensors
from ..readers.weights_folder import find_weights, read_json, read_weights
from .language_model import LanguageModel, LanguageModelSettings

if TYPE_CHECKING:
    from torch import Tensor

STEMS = ("model", "pytorch_model", "magma")
MODULE = "module"
"""The section of a training checkpoint that holds the model."""
PREFIXES = (f"{MODULE}.lm.transformer.", "lm.transformer.", "transformer.", "")
"""How the model's keys begin: within a released MAGMA, within transformers' GPT-J with a head, and alone."""
# A head, masks and tables that older versions saved, and the other half of a MAGMA.
EXTRAS = ("*lm_head.*", "*.attn.bias", "*.attn.masked_bias", "*.attn.embed_positions", "*image_prefix.*")
GENERIC = (
    "transformers_version", "output_hidden_states", "output_attentions", "return_dict", "chunk_size_feed_forward",
    "is_encoder_decoder", "architectures", "torch_dtype", "dtype", "tokenizer_class", "task_specific_params",
    "bos_token_id", "pad_token_id", "id2label", "label2id", "problem_type", "gradient_checkpointing", "use_cache",
    "initializer_range", "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "tie_word_embeddings", "_name_or_path",
    "scale_attn_weights", "rotary",
)  # fmt: skip
"""Settings of transformers' that change nothing of the states: of training, of a head, of what else is returned."""
MAGMA = {"location": "mlp", "type": "normal", "downsample_factor": 4}
"""The adapters of the released MAGMA, whose configuration is not GPT-J's."""


def language_model_load(path: Path) -> Load:
    """The model with unwritten weights, and what fills it. `path` is a folder with config.json and weights.

    A folder without the setting `adapter` is taken for a released MAGMA's. Raises CheckpointError.
    """
    source = path / "config.json"
    settings = language_model_settings(read_json(source), str(source))
    model = build_module(lambda: LanguageModel(settings), str(source))
    tensors = _tensors(path)
    prefix = next(each for each in PREFIXES if not each or any(key.startswith(f"{each}h.") for key in tensors))
    names = {key: prefix + key for key in model.state_dict()}
    return Load(model, tensors, str(path), EXTRAS, names)


def _tensors(folder: Path) -> "dict[str, Tensor]":
    found = find_weights(folder, *STEMS)
    if found is None or found.suffix == ".json":
        return read_weights(folder, *STEMS)
    return read_tensors(found, (MODULE,))


def language_model_settings(values: Mapping[str, Any], source: str) -> LanguageModelSettings:
    """The sizes that a configuration states; raises CheckpointError with every setting of another model."""
    read = ConfigReader(values, source, model="GPT-J")
    read.only("model_type", "gptj", absent=None)
    width, layers, heads = (read.count(name) for name in ("n_embd", "n_layer", "n_head"))
    vocabulary, positions = read.count("vocab_size"), read.count("n_positions")
    rotary = read.count("rotary_dim")
    inner = 4 * width if read.raw("n_inner") is None else read.count("n_inner")
    epsilon = read.number("layer_norm_epsilon")
    read.only("activation_function", "gelu_new", absent="gelu_new")
    end = read.raw("eos_token_id")
    adapter = ConfigReader(MAGMA, source, read.problems) if "adapter" not in read else read.section("adapter")
    adapter.only("location", "mlp", absent="mlp")
    adapter.only("type", "normal", absent="normal")
    factor = adapter.count("downsample_factor")
    adapter.close()
    read.skip("adapter", *GENERIC)
    read.close()
    if width % heads or rotary > width // heads or rotary % 2:
        read.note(
            "n_embd as a multiple of n_head and an even rotary_dim of at most their quotient", (width, heads, rotary)
        )
    if width % factor:
        read.note("n_embd as a multiple of the adapter's downsample_factor", (width, factor))
    if not isinstance(end, int) or isinstance(end, bool) or not 0 <= end < vocabulary:
        read.note(f"eos_token_id as a token below vocab_size {vocabulary}", end)
    refuse(read.problems)
    assert isinstance(end, int)
    return LanguageModelSettings(
        vocabulary, positions, width, layers, heads, rotary, inner, width // factor, epsilon, end
    )
