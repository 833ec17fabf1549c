"""The one error tree. Every error says what, where, what was found, what was expected, what to do next.

    QoetwinError
    ├── InputError            a file or a value from outside is not what it should be
    │   ├── NotFoundError     it is not there
    │   ├── TruncatedError    it ends in the middle
    │   └── UnknownNameError  a country, an application, a model … that nobody has heard of
    ├── SourceError           a measurement source does not answer as it should
    │   ├── UnreachableError  nothing answers there
    │   └── UntrustedError    its certificate cannot be trusted
    ├── StoreError            the knowledge graph or the lake cannot be read or written
    │   ├── DamagedError      a file that it is made of is gone, or not as it was written
    │   └── EmptyError        it is well, but what is asked of it was never put in
    ├── LeakError             a model would see its own answer; the training is refused
    ├── DataError             there is too little, or not the right kind, to learn or to score
    └── ArtefactError         a saved model is not one of ours, or not of this version

Foreign exceptions are turned into one of these at the edge of the package that calls the foreign library.
"""

from __future__ import annotations


class QoetwinError(Exception):
    """Base of all errors that a user can meet.

    Args:
        what: what went wrong, one clause.
        where: the file, address, column or object it went wrong at.
        found: what was there.
        expected: what should have been there.
        next_step: what the user can do now.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.found = found
        self.expected = expected
        self.next_step = next_step
        super().__init__(self.line())

    def line(self) -> str:
        """The error as one line of text, in which nothing can move a terminal's cursor."""
        text = f"{self.what}: {self.where}" if self.where is not None else self.what
        if self.found is not None:
            text += f"; found {self.found}"
        if self.expected is not None:
            text += f"; expected {self.expected}"
        if self.next_step is not None:
            text += f"; {self.next_step}"
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))


class InputError(QoetwinError):
    """A file or a value from outside is not what it should be."""


class NotFoundError(InputError):
    """The thing named by the user is not there."""


class TruncatedError(InputError):
    """A file or an answer ends in the middle of itself."""


class UnknownNameError(InputError):
    """A name (country, application, model, protocol …) that is not known here."""


class SourceError(QoetwinError):
    """A measurement source does not answer as it should."""


class UnreachableError(SourceError):
    """Nothing answers at the source's address."""


class UntrustedError(SourceError):
    """The source's TLS certificate cannot be trusted."""


class StoreError(QoetwinError):
    """The knowledge graph or the lake cannot be read or written."""


class DamagedError(StoreError):
    """A file that the lake is made of is gone, or not as it was written."""


class EmptyError(StoreError):
    """The store is well, but what is asked of it was never put in."""


class LeakError(QoetwinError):
    """A predictor's inputs depend on the values it is asked to predict."""


class DataError(QoetwinError):
    """There is too little data, or not the right kind, to learn from or to score."""


class ArtefactError(QoetwinError):
    """A saved model cannot be used: not ours, damaged, or of another version."""
