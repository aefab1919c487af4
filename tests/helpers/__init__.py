"""What several test files need: a reference implementation, a zoo of architectures, named properties."""
