"""One file of tests for every file of the package."""
