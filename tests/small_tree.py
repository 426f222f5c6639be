"""A small tree of three levels: a node with one child, one with two children and one with three."""

from heteroseg.labels.taxonomy import TaxonomyFile, build_taxonomy

FILE = TaxonomyFile(name="t", tree={"root": ["a", "b", "c"], "a": ["x", "y"], "x": ["u", "v", "w"], "b": ["only"]})
TREE = build_taxonomy(FILE)
