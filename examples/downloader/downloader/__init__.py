"""A resilient downloader of open-access PDFs: DOIs or URLs in, checked and content-addressed files out.

    python -m downloader dois.txt --out papers --email you@example.org

Sources are tried in tiers (`sources`, `plan`) by an orchestrator, in threads (`orchestrator`, `threaded`) or under
asyncio (`aio`). Every request passes retry, breaker, limiter, client in this order (`fetch`, `guards`, `retries`,
`clients`); what an answer means is decided in `faults`, what a file must be in `store`.
"""
