"""Rules for Prometheus that ask of live counters what the gate asks of a record.

    from retrospan.slo.rules.alerts import rules_for
    print(rules_for(DEFAULTS.values(), 30 * 86_400).text())

| module    | what it does                                                            |
|-----------|-------------------------------------------------------------------------|
| `burn`    | windows and factors of burn rates, from the period of an objective       |
| `series`  | which series tells of an objective, or why none does                     |
| `alerts`  | recording rules and alerts, as a rule file                               |
| `runbook` | what the alerts say to whoever they wake                                 |
| `command` | `retrospan slo rules`                                                    |
"""
