"""The ledger: one record of every call, for cache, resume, replay and audit.

`schema` and `writer` are the SQLite file and its one writing thread; `records` and `fingerprint`
say what is kept and under which key; `engine` answers calls by the mode's rules, `flights` lets
identical calls share one request; `client` is the face. `reader` reads, `portable` exports. Only
`engine` and `client` know asyncio clients.
"""
