"""The ledger: one record of every call, for cache, resume, replay and audit.

`schema` and `writer` are the SQLite file and its one writing thread, `queries` what is asked of it,
`store` all of that for a loop that must not wait. `records`, `fingerprint` and `questions` say what
is kept and under which key. `engine` answers calls by the mode's rules: from the file (`replaying`,
`bulk`), or through `flights` that identical calls share and `asking` flies to the client `below`.
`client` is the face. `reader` reads, `table` shows, `portable` exports, `unseen` explains; `memory`
is what there is without a file.
"""
