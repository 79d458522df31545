"""What can stand in a scene: objects with their names, backgrounds with their phrases.

`names` are used in training captions, the first of them most often. `unseen` are synonyms that no
training caption contains: evaluation uses them to ask what the frozen language model brings along.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Object:
    emoji: str
    names: tuple[str, ...]
    unseen: tuple[str, ...] = ()


IRREGULAR = {"fish": "fish", "tropical fish": "tropical fish", "cactus": "cacti", "octopus": "octopuses"}


def plural(name: str) -> str:
    if name in IRREGULAR:
        return IRREGULAR[name]
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    if name.endswith(("s", "sh", "ch", "x")):
        return name + "es"
    return name + "s"


def article(name: str) -> str:
    return "an" if name[0] in "aeio" or name.startswith("umb") else "a"


OBJECTS = (
    Object("🐶", ("dog", "puppy"), ("hound",)),
    Object("🐱", ("cat", "kitten"), ("kitty",)),
    Object("🐼", ("panda", "panda bear")),
    Object("🐯", ("tiger",)),
    Object("🐵", ("monkey", "chimpanzee"), ("ape",)),
    Object("🐷", ("pig", "piglet"), ("hog",)),
    Object("🐸", ("frog",), ("toad",)),
    Object("🐧", ("penguin",)),
    Object("🐠", ("fish", "tropical fish")),
    Object("🐙", ("octopus",), ("squid",)),
    Object("🐝", ("bee", "honeybee"), ("bumblebee",)),
    Object("🦋", ("butterfly",), ("moth",)),
    Object("🐞", ("ladybug", "ladybird"), ("beetle",)),
    Object("🐢", ("turtle",), ("tortoise",)),
    Object("🍎", ("apple", "red apple")),
    Object("🍌", ("banana",), ("plantain",)),
    Object("🍓", ("strawberry",)),
    Object("🍉", ("watermelon", "slice of watermelon"), ("melon",)),
    Object("🍕", ("pizza", "slice of pizza")),
    Object("🍔", ("burger", "hamburger"), ("cheeseburger",)),
    Object("🍩", ("donut", "doughnut")),
    Object("🍄", ("mushroom", "toadstool")),
    Object("🌻", ("sunflower", "flower")),
    Object("🌳", ("tree",), ("oak",)),
    Object("🌵", ("cactus",)),
    Object("🏠", ("house", "home"), ("cottage",)),
    Object("🚗", ("car", "red car"), ("automobile",)),
    Object("🚌", ("bus",), ("coach",)),
    Object("🚀", ("rocket", "spaceship"), ("spacecraft",)),
    Object("⛵", ("sailboat", "boat"), ("yacht",)),
    Object("🎈", ("balloon", "red balloon")),
    Object("⚽", ("soccer ball", "ball"), ("football",)),
    Object("⏰", ("clock", "alarm clock")),
    Object("☂", ("umbrella",), ("parasol",)),
    Object("⭐", ("star", "yellow star")),
    Object("🤖", ("robot",), ("android",)),
)


@dataclass(frozen=True)
class Background:
    name: str
    colour: tuple[int, int, int]
    phrases: tuple[str, ...]
    texture: str = ""  # name of a function in scenes.py that draws the 8-pixel tiles


def _plain(name: str, *colour: int) -> Background:
    article_ = article(name)
    phrases = (
        f"on {article_} {name} background",
        f"on {article_} {name} background",
        f"on {name}",
        f"with {article_} {name} background",
        f"against {article_} {name} wall",
    )
    return Background(name, colour, phrases)


BACKGROUNDS = (
    _plain("white", 255, 255, 255),
    _plain("black", 16, 16, 16),
    _plain("grey", 150, 150, 150),
    _plain("red", 214, 40, 40),
    _plain("orange", 245, 140, 30),
    _plain("yellow", 250, 220, 70),
    _plain("green", 40, 150, 70),
    _plain("blue", 40, 80, 200),
    _plain("light blue", 150, 210, 245),
    _plain("purple", 120, 60, 170),
    _plain("pink", 250, 170, 200),
    _plain("brown", 120, 75, 45),
    Background("grass", (110, 180, 60), ("on the grass", "in a meadow", "on a green lawn"), "grass"),
    Background("night sky", (20, 24, 70), ("in the night sky", "at night", "under the stars"), "night"),
    Background("sea", (30, 120, 180), ("in the sea", "on the ocean", "in the water"), "sea"),
    Background("desert", (225, 190, 130), ("in the desert", "on the sand", "on a sandy beach"), "desert"),
)
WHITE = 0
