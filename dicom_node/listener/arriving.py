"""The DICOM file of an instance while its dataset arrives, in one buffer for all instances of an association.

A dataset is copied once, to the place from which it is sealed. Each further copy of half a megabyte costs as much
processor time as a statement, holds the interpreter meanwhile, and drives what the others need out of the caches.
"""

from typing import Final

HEAD_ROOM: Final = 1024
"""Bytes before the dataset: preamble and file meta information, which hold three UIDs of at most 64 characters."""

KEPT: Final = 2 * 1024 * 1024
"""Largest buffer that is kept for the next instance: a thousand associations do not keep the largest of each."""


class ArrivingFile:
    """What has arrived of a dataset, with room for what a DICOM file has before it."""

    __slots__ = ("_end", "_view")

    def __init__(self) -> None:
        self._view = memoryview(bytearray())
        self._end = HEAD_ROOM

    def __len__(self) -> int:
        """Return how many bytes of the dataset have arrived."""
        return self._end - HEAD_ROOM

    def clear(self) -> None:
        """Begin with the next dataset; views of the former one are not valid any more."""
        if len(self._view) > KEPT:
            self._view = memoryview(bytearray())
        self._end = HEAD_ROOM

    def add(self, fragment: bytes | memoryview) -> None:
        """Add the next fragment of the dataset."""
        end = self._end + len(fragment)
        if end > len(self._view):
            larger = memoryview(bytearray(max(end, len(self._view) * 3 // 2)))
            larger[HEAD_ROOM : self._end] = self.dataset()
            self._view = larger
        self._view[self._end : end] = fragment
        self._end = end

    def dataset(self) -> memoryview:
        """Return the dataset as far as it has arrived; valid until :meth:`clear`."""
        return self._view[HEAD_ROOM : self._end]

    def file(self, head: bytes) -> memoryview:
        """Return the DICOM file; valid until :meth:`clear`.

        Parameters
        ----------
        head
            Preamble and file meta information, at most :data:`HEAD_ROOM` bytes.
        """
        start = HEAD_ROOM - len(head)
        self._view[start:HEAD_ROOM] = head
        return self._view[start : self._end]
