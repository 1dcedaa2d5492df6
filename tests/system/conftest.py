# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests. They run the built binary (NETSONDE_BINARY, default build/netsonde) as root, in network
and mount namespaces of their own; see netlab.py. A test that takes longer than its deadline fails instead of hanging:
two minutes, or what @pytest.mark.deadline(seconds) says.
"""
import os
import signal
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))
os.environ["PATH"] += ":/usr/sbin:/sbin"

import netlab  # noqa: E402
import netsonde  # noqa: E402

DEADLINE_S = 120


def pytest_configure(config):
    config.addinivalue_line("markers", "deadline(seconds): how long the test may take, in place of two minutes")
    if not os.access(netsonde.BINARY, os.X_OK):
        pytest.exit(f"there is no {netsonde.BINARY}: build it with make", returncode=2)
    if os.geteuid() == 0:
        netlab.enter_private_namespaces()
    if netsonde.SANITIZED:
        # Looking for leaks is turned on again where it works: see netsonde.Server.
        os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root: loads BPF programs and makes namespaces"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    marker = item.get_closest_marker("deadline")
    seconds = int((marker.args[0] if marker else DEADLINE_S) * netsonde.PATIENCE)

    def late(*_):
        raise TimeoutError(f"the test took longer than its {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def lab():
    made = netlab.Lab()
    yield made
    made.close()


@pytest.fixture
def programs():
    """Starts processes and makes sure that none outlives the test.

    Their directory can be entered by all, since a server started as root goes on as somebody else.
    """
    with tempfile.TemporaryDirectory(prefix="netsonde-test-") as directory:
        os.chmod(directory, 0o755)
        started = netsonde.Programs(directory)
        yield started
        started.end()


@pytest.fixture
def start_agent(programs):
    """start_agent(host, config="...", arguments=[...]) -> a ready netsonde.Agent.

    At the end of the test it must stop on SIGTERM with exit status 0 and leave no BPF program, map or link.
    """
    agents = []

    def start(host, config="", arguments=()):
        agent = netsonde.Agent(programs, host, config, arguments)
        agents.append(agent)
        agent.wait_ready()
        return agent

    yield start
    for agent in agents:
        agent.stop()


@pytest.fixture
def start_server(programs):
    """start_server(host, config="...", arguments=[...]) -> a ready netsonde.Server."""
    servers = []

    def start(host, config="", arguments=()):
        server = netsonde.Server(programs, host, config, arguments)
        servers.append(server)
        server.wait_ready()
        return server

    yield start
    for server in servers:
        server.stop()
