"""The ledger: one record of every call, for cache, resume, replay and audit."""
