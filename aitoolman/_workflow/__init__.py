"""Workflows: tasks in sequence or as a DAG, run, recorded, stepped, drawn and forked.

`tasks` and `workflow` are what a program sees; `engine` runs it by `scheduling`, `dataflow`,
`slots` and `waiting`. `recorder` keeps `steps` in a `history`; `debug` steps by a `stepper` and
lets one `peek`; `fork` goes on from the middle; `graph`, `layout`, `picture`, `mermaid` draw.
"""
