"""The mailbox of a comparison on a cluster: workers put letters into it, whoever carries out the comparison empties it.

It lives on the machine of the comparison, so that what has been put there does not die with the machine of a worker.
This file imports nothing of prognet: Ray sends the class itself, so that a mailbox needs neither torch nor its memory.
"""


class Mailbox:
    """Letters in the order in which they came, and how far everybody is."""

    def __init__(self, room: int) -> None:
        """
        Args:
            room: bytes of letters from which on it counts as full.
        """
        self._room = room
        self._letters: list[bytes] = []
        self._updates: dict[tuple[int, int], int] = {}

    def has_room(self) -> bool:
        """Whether the next letter may come; else its sender waits, so that memory stays bounded."""
        return sum(map(len, self._letters)) < self._room

    def put(self, letter: bytes) -> None:
        """Keeps a letter until the mailbox is emptied."""
        self._letters.append(letter)

    def tell(self, number: int, attempt: int, updates: int) -> None:
        """Notes the updates that a unit has done in an attempt; none, when it begins."""
        self._updates[number, attempt] = updates

    def empty(self) -> tuple[list[bytes], dict[tuple[int, int], int]]:
        """All letters, and by unit and attempt the updates that were told since it was emptied last."""
        letters, self._letters = self._letters, []
        updates, self._updates = self._updates, {}
        return letters, updates
