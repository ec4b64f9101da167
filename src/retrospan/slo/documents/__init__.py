"""Files of objectives: `slo.toml` and OpenSLO v1, read into one model and written from it.

    slos = load(["slo.toml"]).slos                  # the defaults, with what the file says of them and adds
    print(as_openslo(slos))

| module                    | what it does                                                                  |
|---------------------------|-------------------------------------------------------------------------------|
| `places`                  | where something stands, what is wrong with it                                  |
| `toml_nodes`, `yaml_nodes`| a text into nodes that know their place                                        |
| `fields`, `quantities`    | the keys of a table and their types; "85%", "20s", "28d"                       |
| `slo_toml`                | `slo.toml` into objectives                                                     |
| `openslo`, `openslo_objects`, `openslo_alerts` | OpenSLO's documents into objectives                        |
| `load`                    | several files over the defaults                                                |
| `write_toml`, `write_openslo`, `yaml_text` | objectives into files                                          |
"""
