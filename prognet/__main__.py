"""`python -m prognet` is the command `prognet`."""

from prognet.cli import main

raise SystemExit(main())
