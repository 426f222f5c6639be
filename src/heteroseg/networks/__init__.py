"""Backbone, decoder and head. Models know the taxonomy, never the datasets."""

from heteroseg.networks.backbone import Backbone, as_backbone, build_backbone
from heteroseg.networks.heads import HierarchicalHead, fused_head, replace_classifier
from heteroseg.networks.network import Network, build_network

__all__ = [
    "Backbone",
    "HierarchicalHead",
    "Network",
    "as_backbone",
    "build_backbone",
    "build_network",
    "fused_head",
    "replace_classifier",
]
