"""The tests of prognet."""
