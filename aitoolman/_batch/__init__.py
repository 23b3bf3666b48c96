"""Dataframes: one module call per row.

`source` reads rows from whatever holds them, `binding` and `prepare` make requests of them,
`making` puts both together; `survey` and `estimate` count what a run would send, and `plan` is the
face of that. `runner` runs it through an engine (`engine` is the interface, `local` the one in this
process, fed by `line`), `state` holds the results, `frame` and `kinds` turn them into columns, and
`result` is the face of that; `judge` and `compare` hold answers against labels.
"""
