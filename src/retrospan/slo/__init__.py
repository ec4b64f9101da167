"""The SLO gate: definitions, what a record's rows come to, verdicts and their output.

    from retrospan.slo.gate import judge_run
    report = judge_run("telemetry.sqlite", "latest")
    report.verdict, report.exit_code

`gate` puts together what the other modules do one by one.
"""
