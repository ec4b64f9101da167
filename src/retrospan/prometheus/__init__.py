"""Metrics for Prometheus: `endpoint` serves those of the watched process, the rest those of a record.

What both have in common, an HTTP server of one page, is `server`.
"""
