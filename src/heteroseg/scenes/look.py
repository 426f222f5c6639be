"""What scenes are drawn with, read from specs/scenes.yaml: colours, lights, shapes, signs and concepts."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from heteroseg.files import SPECS, read_yaml

Color = Sequence[float] | np.ndarray
OTHER_SIGN = "traffic sign (front)"  # an inner node: a front sign that is none of the annotated types

_LOOK = read_yaml(SPECS / "scenes.yaml").data
BLACK, GREY, STEEL, BLUE, GLASS, SKIN = map(_LOOK["colors"].get, ("black", "grey", "steel", "blue", "glass", "skin"))
PAINTS, WALLS, BODIES, GLYPHS = (_LOOK[key] for key in ("paints", "walls", "bodies", "glyphs"))
LIGHTS = [SimpleNamespace(**light) for light in _LOOK["lights"]]
SIGNS = {name: SimpleNamespace(**_LOOK["face"] | sign) for name, sign in _LOOK["signs"].items()}
OTHER_SIGNS = [SimpleNamespace(**_LOOK["face"] | sign) for sign in _LOOK["other_signs"]]
SHAPES = _LOOK["shapes"] | {
    "octagon": [(np.cos(a) * 1.082, np.sin(a) * 1.082) for a in np.pi / 8 + np.arange(8) * np.pi / 4],
    "disc": [(np.cos(a), np.sin(a)) for a in np.arange(28) * np.pi / 14],
}
CIRCLE = np.pad(np.array(SHAPES["disc"]), ((0, 0), (0, 1)))  # in the plane of x and y
CONCEPTS = (*_LOOK["concepts"], *SIGNS)
INDEX = {name: i for i, name in enumerate(CONCEPTS)}
TEXTURE = np.array([_LOOK["concepts"].get(name, 0.02) for name in CONCEPTS], np.float32)
