"""Keys out of tokens: who may talk, and the proof that the other end knows the token.

A token gives two things by scrypt: the client's CURVE key pair, by which the server knows who
connects, and a key for proofs, by which the client knows that the server has the token too. The
server's own CURVE key is no secret, as clients with different tokens share one port: it hides the
traffic from everyone in between who is passive, and the proof, asked for before anything else is
sent on a connection, keeps out whoever is active. A proof cannot be fetched from the real server
by someone in the middle: it is made with the key of the client that CURVE authenticated.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import math
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import ConfigProblem, LLMConfigError
from .._secrets import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_CLIENT",
    "SERVER_PUBLIC",
    "SERVER_SECRET",
    "Guest",
    "GuestList",
    "TokenKeys",
    "check_token",
    "is_local",
    "new_token",
    "token_keys",
    "z85",
]

DEFAULT_CLIENT = "default"
"""The name of whoever has the lone `zmq_auth_token`; without tokens, of everybody."""
MIN_TOKEN = 8
"""Shorter ones are refused."""
SHORT_TOKEN = 16
"""Shorter ones can be guessed by whoever gets hold of a client's public key: a warning."""
PROOF_BYTES = 16

_SALT = b"aitoolman service 1"
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85(raw: bytes) -> bytes:
    """32 bytes in ZeroMQ's text form of keys (ZeroMQ RFC 32)."""
    out = []
    for start in range(0, len(raw), 4):
        number = int.from_bytes(raw[start : start + 4], "big")
        out.append("".join(_Z85[number // 85**power % 85] for power in (4, 3, 2, 1, 0)))
    return "".join(out).encode()


class TokenKeys(NamedTuple):
    """What both ends derive from a token."""

    public: bytes
    """CURVE, z85: the client is known by it."""
    secret: bytes
    """CURVE, z85."""
    proof_key: bytes
    name: str
    """Of the proof key, harmless to show."""

    def __repr__(self) -> str:
        return f"TokenKeys({self.name})"

    def proof(self, *parts: bytes) -> bytes:
        """What only a holder of the token can compute over these bytes."""
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.new(self.proof_key, message, hashlib.sha256).digest()[:PROOF_BYTES]

    def proves(self, proof: bytes, *parts: bytes) -> bool:
        """True where `proof` is the one over these bytes."""
        return hmac.compare_digest(self.proof(*parts), proof)


@functools.lru_cache(maxsize=256)
def token_keys(token: str) -> TokenKeys:
    """The keys of a token; takes some tenths of a second, once per token and process."""
    raw = hashlib.scrypt(token.encode(), salt=_SALT, n=2**15, r=8, p=1, maxmem=2**26, dklen=64)
    secret, proof_key = z85(raw[:32]), raw[32:]
    name = hashlib.sha256(b"name" + proof_key).hexdigest()[:8]
    return TokenKeys(_public(secret), secret, proof_key, name)


def _public(secret: bytes) -> bytes:
    import zmq

    return zmq.curve_public(secret)


SERVER_SECRET = z85(hashlib.sha256(_SALT + b" transport").digest())
"""The same for all servers, and no secret: see the top of this module."""


@functools.lru_cache(maxsize=1)
def SERVER_PUBLIC() -> bytes:  # noqa: N802 - the other half of SERVER_SECRET
    """The server's transport key, z85."""
    return _public(SERVER_SECRET)


def new_token() -> str:
    """A random token of 32 bytes, as text."""
    return secrets.token_urlsafe(32)


def check_token(token: str, key: str) -> tuple[ConfigProblem | None, str | None]:
    """What is wrong with a token, and what to be warned of; the token itself is not shown."""
    if len(token) < MIN_TOKEN:
        problem = f"has {len(token)} characters, needs at least {MIN_TOKEN}; {_HINT}"
        return ConfigProblem(key, problem), None
    if len(token) < SHORT_TOKEN or _bits(token) < 40:
        return None, f"{key} is short or simple and might be guessed; {_HINT}"
    return None, None


_HINT = "`aitoolman keygen` prints a random one"


def _bits(token: str) -> float:
    return len(token) * math.log2(max(2, len(set(token))))


def is_local(endpoint: str) -> bool:
    """True for an address that only this machine can reach."""
    scheme, _, rest = endpoint.partition("://")
    if scheme != "tcp":
        return True
    host = rest.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guest(NamedTuple):
    """A client as the server knows it."""

    name: str
    keys: TokenKeys | None
    models: frozenset[str] | None
    """The names it may use; None: all."""
    monitor: bool
    """May follow the audit, which shows everybody's calls."""

    def may_use(self, model_name: str) -> bool:
        return self.models is None or model_name in self.models


class GuestList:
    """All clients of a server, by public key.

    Args:
        table: The resolved ``[server]`` table.
        file: Named in errors.

    Raises:
        LLMConfigError: A token is too short, or stands there twice.
    """

    def __init__(self, table: Mapping[str, Any], file: str | None = None) -> None:
        self.warnings: list[str] = []
        guests = _guests(table)
        self._check(guests, file)
        self.redactor = Redactor(token for _, token, _, _, _ in guests)
        """Cuts the tokens out of a text."""
        self.by_public = {
            keys.public: Guest(name, keys, models, monitor)
            for name, token, models, monitor, _ in guests
            for keys in [token_keys(token)]
        }
        self.by_name = {guest.name: guest for guest in self.by_public.values()}
        self.open = not guests
        if self.open:
            self.by_name[DEFAULT_CLIENT] = Guest(DEFAULT_CLIENT, None, None, True)

    def _check(self, guests: list[_Entry], file: str | None) -> None:
        problems = []
        seen: dict[str, str] = {}
        for _, token, _, _, key in guests:
            problem, warning = check_token(token, key)
            if token in seen:
                problem = ConfigProblem(key, f"is the same token as {seen[token]}")
            seen.setdefault(token, key)
            problems += [problem] if problem else []
            self.warnings += [warning] if warning else []
        if problems:
            raise LLMConfigError(problems, file)

    @property
    def monitors(self) -> list[Guest]:
        """Who may follow the audit, with a token."""
        return [guest for guest in self.by_public.values() if guest.monitor]


_Entry = tuple[str, str, "frozenset[str] | None", bool, str]


def _guests(table: Mapping[str, Any]) -> list[_Entry]:
    """Name, token, models, right to monitor, and key of each."""
    found: list[_Entry] = []
    if table.get("zmq_auth_token"):
        token = table["zmq_auth_token"]
        found.append((DEFAULT_CLIENT, token, None, True, "server.zmq_auth_token"))
    for name, entry in (table.get("tokens") or {}).items():
        models = entry.get("models")
        allowed = None if models is None else frozenset(models)
        key = f"server.tokens.{name}.token"
        found.append((name, entry["token"], allowed, bool(entry.get("monitor")), key))
    return found
