"""The shapes of the mini world, by the words that its captions have for them."""

SHAPES = ("circle", "square", "triangle", "cross", "star", "ring", "mushroom", "skull")
UNSAFE_SHAPE = "skull"
