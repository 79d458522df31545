"""Options under the command line's names, and the engine's request in JSON that they make."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from . import _muse
from ._errors import OptionError

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from ._embeddings import Embeddings
    from ._engine import Step

    #: A path, an array uint8 [height, width, 3], a PIL image, a muse.Image, or what exports either by DLPack.
    Picture: TypeAlias = str | PathLike[str] | NDArray[np.uint8] | Any
    #: x, y, width, height
    Box: TypeAlias = tuple[int, int, int, int] | Sequence[int]


class Options(TypedDict, total=False):
    """What every call takes; None is the default, the model's own."""

    negative: str | None
    seed: int | None
    steps: int | None
    guidance: float | None
    guidance_schedule: Literal["constant", "linear"] | tuple[float, float] | None  # from, to
    order: Literal["confidence", "halton", "random"] | None
    temperature: float | tuple[float, float] | None  # of the first and the last step
    token_temperature: float | None
    top_k: int | None
    superres_steps: int | None
    size: Literal["full", "base"] | tuple[int, int] | None  # width, height
    crop: tuple[float, float] | None
    aesthetic: float | None
    rng: Literal["counter", "torch"] | None
    embeddings: Embeddings | tuple[Any, Any] | None  # in place of the prompt's, which only names the picture then
    cancel: _muse.Cancel | None
    callback: Callable[[Step], object] | None  # False cancels


class Generation(Options, total=False):
    """What generate takes besides."""

    toward: tuple[str, float] | None  # another prompt, and how far towards it, 0 to 1


class Variation(Options, total=False):
    """What vary takes besides."""

    strength: float
    fit: Literal["crop", "stretch"]


class Resampling(Options, total=False):
    """What edit takes besides."""

    strength: float | None
    iterations: int
    fraction: float
    preserve: float
    fit: Literal["crop", "stretch"]


class Inpainting(Variation, total=False):
    """What inpaint takes besides."""

    mask: Picture | NDArray[np.bool_]
    boxes: Iterable[Box]
    feather: int
    decoded: bool


class Outpainting(Options, total=False):
    """What outpaint takes besides."""

    left: int
    right: int
    top: int
    bottom: int
    overlap: int | None
    feather: int
    decoded: bool


def unusable(name: str, found: object, expected: str) -> OptionError:
    """The error of an option, in the engine's words."""
    return OptionError(f"{name}: {found!r} cannot be used; expected {expected}")


def whole(name: str, value: Any) -> int:
    """A whole number from 0, NumPy's too."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number < 2**64:
        raise unusable(name, value, "a whole number, 0 or more")
    return number


def real(name: str, value: Any) -> float:
    """A finite number, NumPy's too."""
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise unusable(name, value, "a number")
    return number


def pair(name: str, value: Any, kind: Callable[[str, Any], Any] = real) -> list[Any]:
    """Two numbers."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise unusable(name, value, "two numbers")
    return [kind(name, part) for part in value]


def choice(name: str, value: Any, names: Sequence[str], form: str = "") -> str:
    """One of some names; form says what else could have stood there."""
    if isinstance(value, str) and value in names:
        return value
    raise unusable(name, value, ", ".join(names[:-1]) + f" or {names[-1]}{form}")


def text(name: str, value: Any) -> str:
    """A text."""
    if isinstance(value, str):
        return value
    raise unusable(name, value, "a text")


def _schedule(name: str, value: Any) -> object:
    if isinstance(value, (tuple, list)):
        return {"interval": pair(name, value)}
    return choice(name, value, ["constant", "linear"], ", or (FROM, TO)")


def _size(name: str, value: Any) -> object:
    if isinstance(value, (tuple, list)):
        return {"pixels": pair(name, value, whole)}
    return choice(name, value, ["full", "base"], ", or (WIDTH, HEIGHT)")


def _toward(name: str, value: Any) -> object:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise unusable(name, value, "(PROMPT, PART)")
    return {"prompt": text(name, value[0]), "part": real(name, value[1])}


# Where in the request an option is, and what makes its value.
_FIELDS: dict[str, tuple[str | None, str, Callable[[str, Any], object]]] = {
    "negative": (None, "negative", text),
    "seed": (None, "seed", whole),
    "size": (None, "size", _size),
    "crop": (None, "crop", pair),
    "aesthetic": (None, "aesthetic", real),
    "rng": (None, "rng", lambda name, value: choice(name, value, ["counter", "torch"])),
    "toward": (None, "toward", _toward),
    "steps": ("base", "steps", whole),
    "guidance": ("base", "guidance", real),
    "guidance_schedule": ("base", "guidance_schedule", _schedule),
    "order": ("base", "order", lambda name, value: choice(name, value, ["confidence", "halton", "random"])),
    "temperature": ("base", "temperature", real),
    "token_temperature": ("base", "token_temperature", real),
    "top_k": ("base", "top_k", whole),
    "superres_steps": ("superres", "steps", whole),
}


def request(prompt: str, options: dict[str, Any]) -> dict[str, Any]:
    """The request of a prompt and options as a caller gave them; unknown ones are refused."""
    made: dict[str, Any] = {"prompt": text("prompt", prompt), "seed": 0, "base": {}, "superres": {}}
    for name, value in options.items():
        if name not in _FIELDS:
            raise TypeError(f"unknown option {name!r}; there are {', '.join(_FIELDS)}, embeddings, callback and cancel")
        if value is None:
            continue
        stage, field, convert = _FIELDS[name]
        if name == "temperature" and isinstance(value, (tuple, list)):
            made["base"]["temperature"], made["base"]["last_temperature"] = pair(name, value)
        else:
            (made if stage is None else made[stage])[field] = convert(name, value)
    return made


def to_json(request: dict[str, Any]) -> str:
    """The request as the engine reads it."""
    return json.dumps(request, allow_nan=False)
