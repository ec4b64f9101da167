"""`python -m downloader`."""

from .cli import main

raise SystemExit(main())
