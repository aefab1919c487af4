"""The parts of `speed.py`: each measures one thing, and says how it is written down and drawn."""
