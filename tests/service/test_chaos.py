"""Servers killed and frozen at random under load: every request ends once, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from ..fake_process import FakeLLMProcess
from .conftest import TOKEN
from .processes import ROOT, ServerProcess, audit_problems

CLIENTS = 6
PARALLEL = 8
LONG_SECONDS = float(os.environ.get("AITOOLMAN_CHAOS_SECONDS", "300"))


class Chaos:
    """Three servers, six clients, one vendor."""

    def __init__(self, tmp_path, vendor, seconds, seed):
        self.rng = random.Random(seed)
        self.seconds = seconds
        self.vendor = vendor
        self.servers = [
            ServerProcess(tmp_path / f"server{n}", vendor.openai_url, more="") for n in range(3)
        ]
        self.in_flight_lost = 0
        self.kills = 0

    def run(self):
        for server in self.servers:
            server.start()
        endpoints = ",".join(server.endpoint for server in self.servers)
        clients = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.service.chaos_client", endpoints,
                 TOKEN, f"c{n}", str(self.seconds)],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for n in range(CLIENTS)
        ]  # fmt: skip
        try:
            self.disturb()
            return [client.communicate(timeout=60) for client in clients]
        finally:
            for client in clients:
                client.kill()
                client.communicate()

    def disturb(self):
        end = time.monotonic() + self.seconds - 4
        time.sleep(1.5)
        while time.monotonic() < end:
            server = self.rng.choice(self.servers)
            if self.rng.random() < 0.6:
                self.kill(server)
            else:
                self.freeze(server)
            time.sleep(self.rng.uniform(0.3, 1.5))

    def kill(self, server):
        self.lose()
        server.kill()
        time.sleep(self.rng.uniform(0, 1.0))
        server.start()

    def freeze(self, server):
        self.lose()
        server.signal(signal.SIGSTOP)
        time.sleep(self.rng.choice([0.5, 2.0, 7.0]))
        server.signal(signal.SIGCONT)

    def lose(self):
        """At most so many requests can be in flight at one server."""
        self.kills += 1
        self.in_flight_lost += CLIENTS * PARALLEL

    def settle(self):
        """Stop everything, and start the servers once more so that they mark what was cut."""
        for server in self.servers:
            assert server.terminate() == 0
            server.start()
            server.terminate()


def check(chaos, results):
    total = Counter()
    for output, errors in results:
        assert not errors, errors
        said = json.loads(output)
        assert said["wrong"] == []
        assert said["left"] == 0
        assert said["slowest"] < 25
        total.update(said["ends"])
    assert total["stop"] > 100, total
    assert set(total) <= {"stop", "cancelled by caller", "error: request"}, total
    assert total["error: request"] <= chaos.in_flight_lost
    return total


def check_vendor(chaos):
    """No request was sent more often than it was disturbed."""
    texts = Counter(
        request["body"]["messages"][-1]["content"] for request in chaos.vendor.requests()
    )
    extra = sum(count - 1 for count in texts.values())
    assert extra <= chaos.in_flight_lost, (extra, chaos.in_flight_lost)
    assert max(texts.values()) <= 1 + chaos.kills


def run_chaos(tmp_path, seconds, seed):
    with FakeLLMProcess("--delay", "0.05", "--chunk-delay", "0.02") as vendor:
        chaos = Chaos(tmp_path, vendor, seconds, seed)
        try:
            results = chaos.run()
            chaos.settle()
        finally:
            for server in chaos.servers:
                server.kill()
        total = check(chaos, results)
        check_vendor(chaos)
        for server in chaos.servers:
            assert not audit_problems(server.rows()), server.folder
        return total


@pytest.mark.timeout(90)
def test_kills_and_freezes_lose_nothing(tmp_path):
    """Half a minute of SIGKILL and SIGSTOP."""
    run_chaos(tmp_path, 20, 1)


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS + 120)
def test_kills_and_freezes_lose_nothing_for_long(tmp_path):
    """Five minutes of it; AITOOLMAN_CHAOS_SECONDS sets another length."""
    run_chaos(tmp_path, LONG_SECONDS, 2)
