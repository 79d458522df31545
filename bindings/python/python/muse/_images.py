"""Pictures that come out, and those that go in."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _muse
from ._errors import OptionError
from ._options import to_json

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray


def pixels(width: int, height: int, rgb: bytearray) -> NDArray[np.uint8]:
    """The array of a native picture, uint8 [height, width, 3]: the same memory."""
    return np.frombuffer(rgb, np.uint8).reshape(height, width, 3)


class Image:
    """A generated picture: np.asarray(image) is its pixels, without a copy, and image.pil() a PIL image of them."""

    def __init__(self, engine: _muse.Engine, request: dict[str, Any], made: _muse._Made) -> None:
        picture, base, superres, notes, seconds = made
        self._engine = engine
        #: uint8 [height, width, 3]
        self.array = pixels(*picture)
        #: the settings that made it, as the engine reads them
        self.request = request
        #: the base grid row by row, uint32
        self.base_tokens: NDArray[np.uint32] = np.frombuffer(base, np.uint32)
        #: the fine grid, None where that stage did not run
        self.superres_tokens: NDArray[np.uint32] | None = (
            None if superres is None else np.frombuffer(superres, np.uint32)
        )
        #: what to know besides, as that a prompt was cut off
        self.notes = notes
        #: what each stage took, for all images that were made side by side
        self.seconds = seconds

    @property
    def seed(self) -> int:
        return int(self.request["seed"])

    @property
    def width(self) -> int:
        return self.array.shape[1]

    @property
    def height(self) -> int:
        return self.array.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        same = dtype is None or np.dtype(dtype) == np.uint8
        if copy is False and not same:
            raise ValueError("another dtype than uint8 takes a copy")
        return self.array if same and not copy else self.array.astype(dtype or np.uint8)

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def pil(self) -> PIL.Image.Image:
        """The picture for Pillow, which must be installed."""
        import PIL.Image

        return PIL.Image.fromarray(self.array)

    def png(self) -> bytes:
        """The bytes that `muse` writes, with prompt, seed, settings and model in the text chunks."""
        return self._engine.png(to_json(self.request), self.width, self.height, self.array.tobytes())

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Writes the PNG file: all of it or nothing, and over an existing one only if forced."""
        _muse.write_new(path, self.png(), force)

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        return f"<muse.Image {self.width}x{self.height} of {self.request['prompt']!r}, seed {self.seed}>"


def imported(given: Any) -> NDArray[Any]:
    """The array of what NumPy knows, or of what exports itself by DLPack alone."""
    if hasattr(given, "__dlpack__") and not hasattr(given, "__array__"):
        return np.from_dlpack(given)
    return np.asarray(given)


def picture(given: Any) -> _muse.Picture:
    """What the engine takes: of a path, a PIL image, or an array, uint8 [height, width, 3]."""
    if isinstance(given, (str, os.PathLike)):
        return _muse.Picture.open(given)
    if hasattr(given, "getbands"):  # Pillow's; as the file that it would write, so that alpha means the same
        file = io.BytesIO()
        given.save(file, "png")
        return _muse.Picture.decode(file.getvalue())
    array = imported(given)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        found = f"an array of {array.dtype} {list(array.shape)}"
        raise OptionError(f"image: {found} cannot be used; expected uint8 [height, width, 3]")
    return _muse.Picture.of(array.shape[1], array.shape[0], array.tobytes())


def mask(given: Any) -> _muse.Mask | None:
    """Which pixels are repainted: the white ones of a path, PIL image or uint8 array; the true ones of a bool array."""
    if given is None:
        return None
    if not isinstance(given, (str, os.PathLike)) and not hasattr(given, "getbands"):
        array = imported(given)
        if array.ndim == 2 and array.dtype == np.bool_:
            return _muse.Mask.of(array.shape[1], array.shape[0], array.tobytes())
        if array.ndim == 2 and array.dtype == np.uint8:
            array = np.repeat(array[:, :, None], 3, axis=2)
        if array.ndim != 3 or array.dtype != np.uint8:
            found = f"an array of {array.dtype} {list(array.shape)}"
            raise OptionError(f"mask: {found} cannot be used; expected bool or uint8 [height, width]")
        given = array
    return _muse.Mask.white(picture(given))
