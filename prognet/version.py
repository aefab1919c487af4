"""The version of prognet."""

__version__ = "0.1.0"
