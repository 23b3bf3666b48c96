"""The service: one trusted process with keys, quotas and the audit, for many clients.

Both ends are here. `security` makes keys out of tokens, `port` puts a ZeroMQ socket on an event
loop. Client: `link` is a connection to one server, `remote` the work of an `LLMZmqClient` over one
or several of them. Server: `server` dispatches, `sessions` and `calls` hold who asked what, `audit`
numbers and publishes it, `doors` decides who may connect. `monitor` follows the audit.
"""
