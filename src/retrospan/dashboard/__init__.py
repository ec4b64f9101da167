"""A dashboard for Grafana over the metrics of `retrospan metrics`.

    print(as_json(DEFAULTS.values()))

| module    | what it does                                                                    |
|-----------|---------------------------------------------------------------------------------|
| `queries` | what is asked of Prometheus, text and no more                                    |
| `panels`  | how it is shown, by Grafana's own library (the extra `dashboard`), and nobody else |
| `command` | `retrospan dashboard`                                                            |
"""
