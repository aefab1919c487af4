"""Parts of the soak: what is watched while a stream is learned, and how it is told."""
