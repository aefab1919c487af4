"""The mailbox: letters in their order, each once, and memory that is bounded."""

import ast
from pathlib import Path

from prognet.evaluation.engines import mailbox
from prognet.evaluation.engines.mailbox import Mailbox


def test_letters_come_out_in_their_order_and_once() -> None:
    box = Mailbox(100)
    for letter in (b"a", b"b", b"c"):
        box.put(letter)
    assert box.empty() == ([b"a", b"b", b"c"], {})
    assert box.empty() == ([], {})


def test_updates_are_those_that_were_told_last_by_unit_and_attempt() -> None:
    box = Mailbox(100)
    box.tell(3, 0, 0)
    box.tell(3, 0, 8)
    box.tell(3, 1, 2)
    box.tell(4, 0, 5)
    assert box.empty() == ([], {(3, 0): 8, (3, 1): 2, (4, 0): 5})
    assert box.empty() == ([], {})


def test_it_is_full_until_it_is_emptied() -> None:
    box = Mailbox(10)
    box.put(b"x" * 9)
    assert box.has_room()
    box.put(b"y")
    assert not box.has_room()
    box.empty()
    assert box.has_room()


def test_it_imports_nothing_so_that_it_can_be_sent_as_it_is() -> None:
    tree = ast.parse(Path(mailbox.__file__).read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
