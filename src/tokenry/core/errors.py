"""Every error a user can cause, in one sentence form: who: what must be; got what; do this."""

from __future__ import annotations


class TokenryError(Exception):
    """Base of all errors raised for users; its text is meant to be printed as it is."""


class InvalidValue(TokenryError, ValueError):
    """An argument or a field has a value that its rule forbids."""


class UnknownMethod(TokenryError, LookupError):
    """No method has this name."""


class UnknownModel(TokenryError, LookupError):
    """No model can be found under this name."""


class UnreadableInput(TokenryError):
    """A document cannot be read as what it should be."""


class UnsupportedModel(TokenryError):
    """The model cannot be reproduced exactly, so it is refused."""


class Incompatible(TokenryError):
    """Two methods, or a method and a mode, cannot work together."""


class ContextOverflow(TokenryError):
    """What remains after compression does not fit into the model's context."""


class StorageError(TokenryError):
    """A file could not be written or is damaged; what was there before is untouched."""


class WorkerLost(TokenryError):
    """A process that did part of the work ended before it was done, again and again."""


class Notice(UserWarning):
    """Something that a user should know although it is no error; the command line prints it, and no other warning."""


class WithoutEffect(Notice):
    """A method was attached and never had anything to act on."""
