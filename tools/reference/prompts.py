"""The runs of `amused.py`: what is asked of the pipelines, beside diffusers' defaults."""

SEEDS = (0, 1, 20261128)

# Of text-to-image alone: steps, guidance, temperature, size [height, width] in pixels, crop, aesthetic. The models
# take turns, the first one first.
PROMPTS = (
    {"prompt": "a photo of a cat"},
    {"prompt": "a photo of a dog on the beach", "negative": "blurry"},
    {"prompt": "two red apples and a green pear", "steps": 8},
    {"prompt": "", "steps": 8},
    {"prompt": "the sea at night", "steps": 6, "guidance": 4.5},
    {"prompt": "a ship, 3 masts, full sail!", "steps": 6, "guidance": 1.0},
    {"prompt": "a house in the snow", "steps": 5, "temperature": [4.0, 1.0], "negative": "people"},
    {"prompt": "a caf\u00e9 in Paris \u2764", "steps": 5, "temperature": [0.0, 0.0]},
    {"prompt": "portrait of an old man with a long white beard, oil on canvas, dark room", "steps": 7},
    {"prompt": "a map", "steps": 7, "size": [32, 48]},
    {"prompt": "a bowl of rice", "steps": 4, "size": [48, 32], "crop": [16, 0]},
    {"prompt": "stars", "steps": 4, "size": [40, 24], "crop": [3, 70]},
    {"prompt": "the moon over a lake", "steps": 3, "aesthetic": 9, "size": [20, 28]},
    {"prompt": "a train in the rain", "steps": 3, "aesthetic": 2},
    {"prompt": "a cat and a dog", "steps": 2, "guidance": 20.0},
    {"prompt": "two dogs in the snow", "steps": 2, "guidance": 7.0, "temperature": [1.0, 0.5]},
    {"prompt": "a red house at night", "steps": 1},
    {"prompt": "a green ship on the sea", "steps": 1, "guidance": 3.0},
    {"prompt": "an old map of the stars", "steps": 16, "temperature": [8.0, 0.5]},
    {"prompt": "rain on the lake", "steps": 20, "negative": "the sea, the moon", "guidance": 2.5},
)
