"""Small relatives of all networks that are built by name, with random weights."""

import pytest

VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES = VIT | {"image_size": 64, "patch_size": 16}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
BEIT = PATCHES | {"out_indices": [1, 2, 3, 4], "pool_scales": [1, 2]}
NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
TIPS = {"model_type": "tipsv2_vision_model", "image_size": 56, "patch_size": 14, "out_indices": [1, 2, 3, 4]}

SEGMENTERS = {
    "beit": BEIT,
    "data2vec-vision": BEIT,
    "dpt": PATCHES | NECK | {"backbone_out_indices": [0, 1, 2, 3]},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "mobilevit": {
        "hidden_sizes": [16, 24, 32],
        "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32],
        "aspp_out_channels": 16,
    },
    "mobilevitv2": {
        "base_attn_unit_dims": [16, 24, 32],
        "n_attn_blocks": [1, 1, 1],
        "width_multiplier": 0.25,
        "aspp_out_channels": 16,
    },
    "sapiens2": PATCHES | {"head_config": {"upsample_out_channels": [16, 8], "conv_out_channels": [8]}},
    "segformer": {
        "hidden_sizes": [8, 16, 16, 16],
        "num_attention_heads": [1, 2, 2, 2],
        "depths": [1, 1, 1, 1],
        "decoder_hidden_size": 16,
    },
    "tipsv2_dpt": NECK | {"backbone_config": VIT | TIPS | {"reshape_hidden_states": False, "apply_layernorm": True}},
    "upernet": {
        "backbone_config": RESNET | {"model_type": "resnet", "out_features": STAGES},
        "hidden_size": 16,
        "auxiliary_channels": 8,
        "auxiliary_in_channels": 16,
    },
}
"""By model type, for `hf-seg:`; those that transformers lists."""
SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4}
SWIN |= {"out_features": STAGES}
DETR = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
DETR |= {"encoder_attention_heads": 8, "decoder_attention_heads": 8, "num_queries": 8}
FORMER = {"hidden_dim": 64, "encoder_feedforward_dim": 16, "dim_feedforward": 16, "num_attention_heads": 2}
FORMER |= {"encoder_layers": 1, "decoder_layers": 2, "num_queries": 8, "backbone_config": SWIN}
EOMT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64, "patch_size": 8}
EOMT |= {"num_blocks": 1, "num_queries": 8}
MASKERS = {
    "detr": DETR | {"backbone_config": RESNET | {"model_type": "resnet", "out_features": STAGES}},
    "eomt": EOMT,
    "eomt_dinov3": EOMT | {"intermediate_size": 32},
    "mask2former": FORMER | {"feature_size": 64, "mask_feature_size": 64},
    "maskformer": {
        "fpn_feature_size": 64,
        "mask_feature_size": 64,
        "backbone_config": SWIN,
        "decoder_config": DETR | {"model_type": "detr"},
    },
    "oneformer": FORMER
    | {"mask_dim": 64, "conv_dim": 64, "text_encoder_width": 64, "text_encoder_num_layers": 1}
    | {"task_seq_len": 8, "query_dec_layers": 1},
    "videomt": EOMT,
}
"""By model type, for `hf-mask:`; those that transformers lists."""

NARROW = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
WINDOWS = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
BLOCKS = [[[3, 8, 8, 1, False]], [[3, 8, 16, 2, False]], [[3, 16, 16, 2, False]], [[5, 16, 16, 2, True]]]
DINO = {key: value for key, value in VIT.items() if key != "intermediate_size"} | {"image_size": 56, "patch_size": 14}

BACKBONES = {
    "beit": PATCHES,
    "bit": NARROW | {"embedding_size": 8, "num_groups": 4},
    "convnext": NARROW,
    "convnextv2": NARROW,
    "dinov2": DINO,
    "dinov2_with_registers": DINO,
    "dinov3_convnext": NARROW,
    "dinov3_vit": PATCHES | {"num_register_tokens": 2},
    "focalnet": {"embed_dim": 8, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 16]},
    "hgnet_v2": {
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 16, 16],
        "depths": [1, 1, 1, 1],
        "stem_channels": [3, 8, 8],
        "stage_in_channels": [8, 8, 16, 16],
        "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [8, 16, 16, 16],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [2, 2, 2, 2],
    },
    "hiera": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
    "lw_detr_vit": {"num_windows": 16} | {key: value for key, value in PATCHES.items() if key != "intermediate_size"},
    "maskformer-swin": WINDOWS,
    "pixio": {key: value for key, value in PATCHES.items() if key != "intermediate_size"},
    "pp_lcnet": {"block_configs": [*BLOCKS, BLOCKS[3]], "stem_channels": 8},
    "pp_lcnet_v3": {"block_configs": [*BLOCKS, BLOCKS[3]], "stem_channels": 8},
    "pp_lcnet_v4": {},
    "pvt_v2": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "resnet": RESNET,
    "rf_detr_dinov2": DINO | {"num_windows": 4},
    "rt_detr_resnet": RESNET,
    "sapiens2": PATCHES,
    "swin": WINDOWS,
    "swinv2": WINDOWS,
    "textnet": {"hidden_sizes": [8, 8, 8, 16, 16], "stem_out_channels": 8},
    "tipsv2_vision_model": DINO,
    "uvdoc_backbone": {},
    "vitdet": {key: value for key, value in PATCHES.items() if key != "intermediate_size"},
    "vitpose_backbone": {key: value for key, value in VIT.items() if key != "intermediate_size"},
}
"""By model type, for `hf:`."""


def catalogue() -> dict[str, dict]:
    """Options by `model.backbone`: the EfficientNets, and all that the installed transformers lists; {} beyond ours."""
    auto = pytest.importorskip("transformers.models.auto.modeling_auto", reason="the extra hf is not installed")
    segmenters, backbones = auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES, auto.MODEL_FOR_BACKBONE_MAPPING_NAMES
    masks = auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES
    families = (("hf-seg", segmenters, SEGMENTERS), ("hf-mask", masks, MASKERS), ("hf", backbones, BACKBONES))
    lites: dict[str, dict] = {f"lite{n}": {} for n in range(3)}
    return lites | {f"{kind}:{name}": small.get(name, {}) for kind, names, small in families for name in sorted(names)}


REFUSED = {
    "hf-mask:videomt": "'hf-mask:videomt' could not be built, Use `pixel_values_videos`",  # takes films
    "hf:dinat": "requires the natten library",
    "hf:hiera": "must take images of any size, found one that takes 224x224 alone",
    "hf:pp_lcnet_v4": "must keep the shape of its images",
    "hf:timm_backbone": "does not name its stages, so it is no AutoBackbone",
    "hf:tipsv2": "does not name its stages, so it is no AutoBackbone",
    "hf:vitpose_backbone": "doesn't match model",
}
"""What is told of those that cannot be taken."""
