# SPDX-License-Identifier: Apache-2.0
"""`netsonde run` as a user starts it: without a flag, and ended by Ctrl-C."""
import os
import re
import signal
import socket
import time

import pytest

import netsonde
from netlab import wait_for
from netsonde import PATIENCE, KernelObjects
from running import AGENT, SERVER, Run, descendants, status_of
from traffic import LoopbackTraffic


@pytest.fixture
def host(lab):
    return lab.host("desk")


def test_run_shows_live_data_and_ends_with_ctrl_c(host, programs):
    traffic = LoopbackTraffic(host)
    try:
        run = Run(programs, host)
        # Two processes; the parent may be a third.
        assert run.agent_pid != run.server_pid

        server = status_of(run.server_pid)
        assert "0" not in server["Uid"].split() and "0" not in server["Gid"].split(), server["Uid"]
        assert server["Groups"].split() in ([], [server["Gid"].split()[0]])
        for pid in (run.agent_pid, run.server_pid):
            status = status_of(pid)
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                assert int(status[kind], 16) == 0, f"{pid}: {kind} {status[kind]}"
            assert status["NoNewPrivs"] == "1"
        assert status_of(run.agent_pid)["Seccomp"] == "2"

        wait_for(lambda: run.has("sum(rate(netsonde_tcp_connections_total{outcome='established'}[5s]))"),
                 netsonde.READY_S, "a rate of connections, which needs a second scrape")
        run.program.signal(signal.SIGINT)
        assert run.program.wait(10) == 0, run.program.err
        run.assert_nothing_left()
    finally:
        traffic.stop()


def test_live_data_within_two_seconds(host, programs):
    """From the start of the command to a rate on the page. The best of three, since the machine has other work too."""
    traffic = LoopbackTraffic(host)
    seconds = []
    try:
        for _ in range(3):
            run = Run(programs, host)
            wait_for(lambda r=run: r.has("sum(rate(netsonde_tcp_connections_total{outcome='established'}[5s]))"),
                     netsonde.READY_S, "live data")
            seconds.append(time.monotonic() - run.started)
            run.program.signal(signal.SIGINT)
            assert run.program.wait(10) == 0, run.program.err
            if seconds[-1] < 2:
                break
    finally:
        traffic.stop()
    assert min(seconds) < 2 * PATIENCE, seconds


def test_ctrl_c_from_a_terminal_is_the_same(host, programs):
    """A terminal sends SIGINT to its whole foreground process group."""
    run = Run(programs, host)
    os.killpg(run.program.pid, signal.SIGINT)
    assert run.program.wait(10) == 0, run.program.err
    run.assert_nothing_left()


@pytest.mark.parametrize("victim", ["agent", "server"])
def test_a_killed_process_ends_the_run(host, programs, victim):
    run = Run(programs, host)
    os.kill(run.agent_pid if victim == "agent" else run.server_pid, signal.SIGKILL)
    status = run.program.wait(10)
    assert status not in (0, -signal.SIGKILL), status
    lines = [line for line in run.program.err.splitlines() if victim in line and re.search("kill|signal 9", line, re.I)]
    assert len(lines) == 1, f"one line should say that the {victim} was killed:\n{run.program.err}"
    run.assert_nothing_left()


def test_killing_the_parent_leaves_nothing(host, programs):
    run = Run(programs, host)
    os.kill(run.program.pid, signal.SIGKILL)
    run.program.wait(10)
    run.assert_nothing_left()


@pytest.mark.parametrize("address", [AGENT, SERVER], ids=["agent", "server"])
def test_a_port_in_use_is_one_clear_line(host, programs, address):
    before = set(KernelObjects.present())
    with host, socket.create_server(address):
        program = programs.start(host, [netsonde.BINARY, "run"], "run")
        pids = {program.pid}

        def ended():
            try:
                pids.update(descendants(program.pid))
            except FileNotFoundError:
                pass
            return program.process.poll() is not None

        wait_for(ended, 10 * PATIENCE, "it gives up")
    assert program.process.returncode == 1
    errors = [line for line in program.err.splitlines() if f"127.0.0.1:{address[1]}" in line]
    assert len(errors) == 1 and re.search("in use", errors[0]), program.err
    for pid in pids:
        wait_for(lambda p=pid: not os.path.exists(f"/proc/{p}"), 5 * PATIENCE, f"process {pid} gone")

    def left():
        # What no process holds: other agents of this machine are not this test's business.
        new = {key: name for key, name in KernelObjects.present().items() if key not in before and key[0] != "map"}
        held = KernelObjects.held_by_anyone()
        return {key: name for key, name in new.items() if key not in held}

    wait_for(lambda: not left(), 10 * PATIENCE, lambda: f"nothing left: {left()}")
