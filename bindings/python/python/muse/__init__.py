"""muse: text to image with masked-token transformers."""

from ._amused import AmusedPipeline, AmusedPipelineOutput
from ._embeddings import Embeddings
from ._engine import Engine, Step
from ._errors import Cancelled, DeviceError, Error, FileError, ModelError, OptionError
from ._images import Image
from ._muse import Cancel, __version__
from ._options import Options

__all__ = [
    "AmusedPipeline",
    "AmusedPipelineOutput",
    "Cancel",
    "Cancelled",
    "DeviceError",
    "Embeddings",
    "Engine",
    "Error",
    "FileError",
    "Image",
    "ModelError",
    "OptionError",
    "Options",
    "Step",
    "__version__",
]
