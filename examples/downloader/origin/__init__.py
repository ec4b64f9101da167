"""Loopback servers that speak like Unpaywall, Crossref, doi.org, publishers, a CDN and Europe PMC, and misbehave.

    python -m origin --artifacts 300 --seed 7 --log access.jsonl --ready origin.env --list dois.txt

`plan` says who misbehaves how, `apis`, `pages` and `files` answer, `breakage` breaks connections, `access_log` writes
down what was really received, `server` runs it all in one process.
"""
