"""Every default value of both configuration files, named."""

from __future__ import annotations

# Requests: [default] and [api."name"], times in seconds
TIMEOUT = 600.0
MAX_RETRIES = 3
PARALLEL = 1
RETRY_DURATION = 0.5
RETRY_FACTOR = 1.5
MAX_WAIT = 120.0
COOLDOWN = 30.0
RPM: int | None = None
TPM: int | None = None
ADAPTIVE = True
API_TYPE = "openai"
BUILTIN_TYPES = ("openai", "anthropic", "llamacpp")

# The embedded model (type "llamacpp"), in [api."name"]
N_CTX = 4096
N_THREADS = 1
N_PARALLEL = 1

# The service: [server]
PUB_EVENT_TYPE = "bind"
AUDIT = "full"
INSECURE = False
SHARE_ANSWERS = False
ON_SERVER_RESTART = "resend"
TOKEN_MONITOR = False

# The ledger: [ledger]
LEDGER_MODE = "off"
LEDGER_RETENTION = "full"
LEDGER_PACE = 0.0
LEDGER_PATH = ".aitoolman/ledger.db"

# Modules: [module_default] and [module."name"]
STREAM = False
OUTPUT_CHANNEL = "stdout"
REASONING_CHANNEL = "reasoning"
FORMAT_RETRIES = 0
