"""Every error a person can cause, and nothing else.

VocError              exit code 1; the message is one sentence: the thing, what was found, what to do
├── UsageError        exit code 2; a flag or a config key is wrong
├── DataError         a picture, an annotation or a split
├── WeightsError      a weight file, or its fit to a network
├── RunError          a run folder
├── ExportError       an exported model
└── ClientError       a server that refuses, or cannot be reached
"""


class VocError(Exception):
    """A problem that a person can put right; its message is what they are shown."""


class UsageError(VocError):
    """A flag, or a key of a config file, has a value that cannot be used."""


class DataError(VocError):
    """A data set, a picture or an annotation is not what it should be."""


class WeightsError(VocError):
    """A weight file cannot be read, or does not fit the network."""


class RunError(VocError):
    """A run folder is missing, incomplete or belongs to something else."""


class ExportError(VocError):
    """A model cannot be exported, or what was exported failed its verification."""


class ClientError(VocError):
    """A server could not be reached, or refused a request."""
