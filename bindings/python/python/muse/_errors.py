"""Exceptions: one class for each kind of error, all of them muse.Error."""


class Error(Exception):
    """What can go wrong; the message names what was found, what was expected and what to do."""


class OptionError(Error, ValueError):
    """A prompt, option or picture that cannot be used."""


class ModelError(Error, ValueError):
    """A model directory, one of its files or a tensor that cannot be used."""


class FileError(Error, OSError):
    """A file that cannot be read or written."""


class DeviceError(Error, RuntimeError):
    """A device that is absent or failed."""


class Cancelled(Error):
    """The callback returned False, or muse.Cancel was used."""
