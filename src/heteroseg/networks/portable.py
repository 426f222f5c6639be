"""What of a network's configuration a MODEL may hold: sizes, switches and plain words, by a list of options.

A library that builds a network takes many more, and some of these name files, addresses or hubs. What is not listed
here never reaches a library from a MODEL, whatever a later version of it may do with the name.
"""

import re
from typing import Any

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.networks.network import LogitsOf, Network

NUMBERS = frozenset(
    [
        "add_fpn",
        "add_projection",
        "apply_layernorm",
        "aspp_dropout_prob",
        "aspp_out_channels",
        "atrous_rates",
        "attention_dropout",
        "attention_probs_dropout_prob",
        "attn_dropout",
        "auxiliary_channels",
        "auxiliary_concat_input",
        "auxiliary_in_channels",
        "auxiliary_loss_weight",
        "auxiliary_num_convs",
        "backbone_featmap_shape",
        "backbone_out_indices",
        "base_attn_unit_dims",
        "batch_norm_eps",
        "block_configs",
        "cae_init_values",
        "class_expand",
        "classifier_dropout_prob",
        "conv_kernel_size",
        "conv_layer_kernel_sizes",
        "conv_layer_strides",
        "conv_symmetric_num",
        "decoder_depth",
        "decoder_hidden_size",
        "decoder_num_heads",
        "depth_divisible_by",
        "depth_multiplier",
        "depths",
        "dilations",
        "divisor",
        "downsample_in_bottleneck",
        "downsample_in_first_stage",
        "drop_path_rate",
        "dropout_prob",
        "embed_dim",
        "embed_dim_multiplier",
        "embedding_dynamic_padding",
        "embedding_size",
        "encoder_stride",
        "expand_ratio",
        "ffn_dropout",
        "ffn_multiplier",
        "finegrained_output",
        "first_layer_is_expansion",
        "flip_pairs",
        "focal_levels",
        "focal_windows",
        "fusion_hidden_size",
        "head_in_index",
        "hidden_dropout_prob",
        "hidden_size",
        "hidden_sizes",
        "image_size",
        "initializer_range",
        "intermediate_size",
        "is_hybrid",
        "kernel_size",
        "key_bias",
        "layer_norm_eps",
        "layer_norm_init",
        "layer_scale_init_value",
        "layerscale_value",
        "linear_attention",
        "loss_ignore_index",
        "mask_ratio",
        "masked_unit_attention",
        "masked_unit_size",
        "min_depth",
        "mlp_bias",
        "mlp_ratio",
        "mlp_ratios",
        "n_attn_blocks",
        "n_cls_tokens",
        "neck_hidden_sizes",
        "neck_ignore_stages",
        "normalize_modulator",
        "normalize_backbone_outputs",
        "normalize_pixel_loss",
        "num_attention_heads",
        "num_channels",
        "num_encoder_blocks",
        "num_experts",
        "num_first_full_attention_layers",
        "num_groups",
        "num_heads",
        "num_hidden_layers",
        "num_key_value_attention_heads",
        "num_key_value_heads_per_layer",
        "num_last_full_attention_layers",
        "num_layers",
        "num_query_pool",
        "num_register_tokens",
        "num_stages",
        "num_windows",
        "num_windows_side",
        "out_indices",
        "output_stride",
        "part_features",
        "patch_padding",
        "patch_size",
        "patch_sizes",
        "patch_stride",
        "pool_scales",
        "pooler_output_size",
        "pos_embed_jitter",
        "pos_embed_rescale",
        "pos_embed_shift",
        "pretrain_image_size",
        "pretrained_window_sizes",
        "proj_bias",
        "qkv_bias",
        "query_bias",
        "query_stride",
        "reassemble_factors",
        "reduction",
        "reshape_hidden_states",
        "reshape_last_stage",
        "residual_block_indices",
        "resnet_configs",
        "resnet_head",
        "rms_norm_eps",
        "rope_theta",
        "scale",
        "semantic_classifier_dropout",
        "semantic_loss_ignore_index",
        "sr_ratios",
        "stage_configs",
        "stage_downsample",
        "stage_downsample_strides",
        "stage_in_channels",
        "stage_kernel_size",
        "stage_light_block",
        "stage_mid_channels",
        "stage_num_blocks",
        "stage_numb_of_layers",
        "stage_out_channels",
        "stem_channels",
        "stem_kernel_size",
        "stem_num_channels",
        "stem_out_channels",
        "stem_stride",
        "stem_strides",
        "strides",
        "tf_padding",
        "use_absolute_embeddings",
        "use_absolute_position_embeddings",
        "use_auxiliary_head",
        "use_batch_norm_in_fusion_residual",
        "use_bias_in_fusion_residual",
        "use_conv_embed",
        "use_gated_mlp",
        "use_layerscale",
        "use_learnable_affine_block",
        "use_mask_token",
        "use_mean_pooling",
        "use_post_layernorm",
        "use_qk_norm",
        "use_post_layernorm_in_modulation",
        "use_relative_position_bias",
        "use_relative_position_embeddings",
        "use_swiglu_ffn",
        "use_shared_relative_position_bias",
        "value_bias",
        "vocab_size",
        "width_factor",
        "width_multiplier",
        "window_block_indexes",
        "window_block_indices",
        "window_size",
    ]
)  # numbers and switches, and lists of them
WORDS = frozenset(
    [
        "depth_decoder_activation",
        "global_padding",
        "hidden_act",
        "layer_type",
        "model_type",
        "out_features",
        "pooler_act",
        "readout_activation",
        "readout_type",
        "stage_names",
        "stem_act_func",
        "stem_type",
    ]
)  # plain words, and lists of them
BLOCKS = frozenset({"backbone_config", "head_config"})  # options of a part
TIMM = frozenset(
    [
        "always_partition",
        "depths",
        "drop_block_rate",
        "drop_path_rate",
        "drop_rate",
        "dynamic_img_size",
        "embed_dim",
        "img_size",
        "mlp_ratio",
        "num_heads",
        "out_indices",
        "output_stride",
        "patch_size",
        "strict_img_size",
        "window_size",
    ]
)
UNUSED = frozenset(
    [
        "_name_or_path",
        "architectures",
        "chunk_size_feed_forward",
        "dtype",
        "id2label",
        "is_encoder_decoder",
        "label2id",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "torch_dtype",
        "transformers_version",
    ]
)  # what transformers notes too, and a network is not built from
LARGEST = 2**20  # of a number
MOST = 4096  # values of an option
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def portable_config(config: ModelConfig, network: Network) -> ModelConfig:
    """The same configuration without anything to download: hub names become a model type with all of its options.

    An option that a MODEL must not hold raises HeterosegError.
    """
    update: dict[str, Any] = {"pretrained": False}
    if config.backbone.startswith(("hf:", "hf-seg:")):
        inner = network.body.model if isinstance(network.body, LogitsOf) else network.get_submodule("body.0.body")
        options: dict[str, Any] = inner.config.to_diff_dict()  # type: ignore[operator,union-attr]
        kind = options.pop("model_type")
        options.pop("out_indices", None)  # out_features says it
        update |= {"backbone": f"{config.backbone.partition(':')[0]}:{kind}", "backbone_options": options}
    told = "a MODEL of this network could not be loaded"
    return require_portable(config.model_copy(update=update), told, "leave it out")


def require_portable(config: ModelConfig, where: str, hint: str = "do not trust this MODEL") -> ModelConfig:
    """The configuration of a MODEL without what no network is built from.

    A backbone that is no plain name, and an option that is not listed as harmless or holds more than its kind of values
    raise HeterosegError, which begins with `where` and ends with `hint`.
    """
    family, _, name = config.backbone.partition(":")
    if not re.fullmatch(r"(\w[\w.-]*)?", name, re.ASCII):
        raise HeterosegError(f"{where}: model.backbone: expected a plain name, found {config.backbone!r:.80}; {hint}")
    options = _portable(config.backbone_options, "backbone_options", family == "timm", where, hint)
    return config.model_copy(update={"backbone_options": options})


def _portable(options: dict[str, Any], place: str, of_timm: bool, where: str, hint: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in options.items():
        told = f"{where}: model.{place}.{key if WORD.fullmatch(key) else ascii(key)[:80]}"
        if key in UNUSED:
            continue
        if key not in (TIMM if of_timm else NUMBERS | WORDS | BLOCKS):
            expected = "expected an option that is known to load nothing"
            raise HeterosegError(f"{told}: {expected}, found this one with {value!r:.80}; {hint}")
        if key in BLOCKS and isinstance(value, dict):
            if place.count(".") > 2:
                raise HeterosegError(f"{told}: expected few blocks in one another, found more; {hint}")
            kept[key] = _portable(value, f"{place}.{key}", of_timm, where, hint)
        elif _is_plain(value, key in WORDS):
            kept[key] = value
        else:
            expected = "plain words" if key in WORDS else f"numbers up to {LARGEST}"
            raise HeterosegError(f"{told}: expected {expected}, found {value!r:.80}; {hint}")
    return kept


def _is_plain(value: Any, words: bool) -> bool:
    """Whether an option is nothing, a word or a number, as is due, or up to MOST of them in lists."""
    waiting, seen = [value], 0
    while waiting and seen + len(waiting) <= MOST:
        part, seen = waiting.pop(), seen + 1
        if isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, str):
            if not words or not WORD.fullmatch(part):
                return False
        elif part is not None and not (isinstance(part, int | float) and abs(part) <= LARGEST):  # NaN is not either
            return False
    return not waiting
