# SPDX-License-Identifier: Apache-2.0
"""`netsonde why` on connections whose reason is known, because it was made: each case has hosts, a link with known faults
and two applications of its own. All run at the same time, so they are watched at the same time."""
import json
import socket
import subprocess
import threading
import time

import pytest

import netlab
import netsonde

INTERVAL_S = 2


class Case:
    """One connection from `near` to `far`, whose ends are worked by two threads until the end."""

    def __init__(self, lab, name, link=None, prepare=None, **work):
        self.name = name
        self.near, self.far = lab.host("near"), lab.host("far")
        ends = lab.link(self.near, self.far, **(link or {}))
        with self.far:
            listener = socket.create_server((ends[1].v4, 0))
        with self.near:
            self.client = socket.socket()
        for sock in (listener, self.client):  # the usual one, whatever this host's default is
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        with self.near:
            if prepare:
                prepare(self.client)
            self.client.connect(listener.getsockname())
        self.server, _ = listener.accept()
        listener.close()
        self.threads = [threading.Thread(target=self._until_closed, args=(function, sock), daemon=True)
                        for function, sock in ((work["near"], self.client), (work["far"], self.server))]
        for thread in self.threads:
            thread.start()
        self.program = None

    @staticmethod
    def _until_closed(function, sock):
        try:
            while True:
                function(sock)
        except OSError:
            pass

    @property
    def pair(self):
        (local, local_port), (remote, remote_port) = self.client.getsockname(), self.client.getpeername()
        return f"{local}:{local_port}-{remote}:{remote_port}"

    @property
    def pair_from_far(self):
        (local, local_port), (remote, remote_port) = self.client.getsockname(), self.client.getpeername()
        return f"{remote}:{remote_port}-{local}:{local_port}"

    def close(self):
        for sock in (self.client, self.server):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(5)
        self.client.close()
        self.server.close()


def push(sock):
    sock.sendall(b"n" * 65536)


def swallow(sock):
    if not sock.recv(1 << 20):
        raise OSError("ended")


def every(seconds, function):
    def work(sock):
        function(sock)
        time.sleep(seconds)
    return work


def read_some(length):
    def work(sock):
        if not sock.recv(length):
            raise OSError("ended")
    return work


def write_some(length):
    return lambda sock: sock.sendall(b"n" * length)


def ask(sock):
    sock.sendall(b"q" * 100)
    receive(sock, 1000)


def answer_after(seconds):
    def work(sock):
        receive(sock, 100)
        time.sleep(seconds)
        sock.sendall(b"a" * 1000)
    return work


def receive(sock, length):
    while length:
        chunk = sock.recv(length)
        if not chunk:
            raise OSError("ended")
        length -= len(chunk)


def small_send_buffer(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)


CASES = {
    # name: (side, cause, least share of the cause, arguments of Case)
    "slow reader": ("far_host", "receive_window", 0.7, dict(link={"delay": "2ms"}, near=push, far=every(0.02, read_some(20000)))),
    "slow writer": ("this_host", "local_writer", 0.7, dict(link={"delay": "2ms"}, near=every(0.03, write_some(2000)), far=swallow)),
    "slow writer, slow": ("this_host", "local_writer", 0.7, dict(near=every(0.4, write_some(2000)), far=swallow)),
    "lossy path": ("network", "loss", 0.5, dict(link={"delay": "10ms", "loss": "3%"}, near=push, far=swallow)),
    "long path": ("network", "distance", 0.7, dict(link={"delay": "60ms"}, near=ask, far=answer_after(0))),
    "small send buffer": ("this_host", "send_buffer", 0.5, dict(link={"delay": "20ms"}, prepare=small_send_buffer, near=push,
                                                               far=swallow)),
    "narrow path": ("network", "bandwidth", 0.6, dict(link={"delay": "2ms", "rate": "8Mbit", "queue": "150ms"}, near=push,
                                                     far=swallow)),
    "slow answer": ("far_host", "far_application", 0.7, dict(link={"delay": "2ms"}, near=ask, far=answer_after(0.15))),
    "slow answer with its acknowledgement": ("far_host", "far_application", 0.6, dict(link={"delay": "1ms"}, near=ask,
                                                                                    far=answer_after(0.025))),
    "slow local reader": ("this_host", "local_reader", 0.7, dict(link={"delay": "2ms"}, near=every(0.02, read_some(20000)), far=push)),
    "slow local answer": ("this_host", "local_writer", 0.7, dict(link={"delay": "2ms"}, near=answer_after(0.15), far=ask)),
    "download over a narrow path": ("network", "bandwidth", 0.5, dict(link={"delay": "2ms", "rate": "8Mbit", "queue": "150ms"},
                                                                     near=swallow, far=push)),
    "download over a lossy path": ("network", "loss", 0.5, dict(link={"delay": "10ms", "loss": "3%"}, near=swallow, far=push)),
    "download of what comes slowly": ("far_host", "far_application", 0.5, dict(link={"delay": "2ms"}, near=swallow,
                                                                              far=every(0.03, write_some(2000)))),
    "silence": ("nothing", "idle", 1, dict(near=swallow, far=swallow)),
}


def start_why(host, *arguments):
    return host.popen([netsonde.BINARY, "why", "--json", "--interval", f"{INTERVAL_S}s", *arguments],
                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(program):
    out, err = program.communicate(timeout=60 * netsonde.PATIENCE)
    assert program.returncode == 0, err.decode()
    return json.loads(out)


@pytest.fixture(scope="module")
def results():
    """What why says of every case, watched after they have run for a while."""
    lab = netlab.Lab()
    cases = {}
    try:
        for name, (_, _, _, arguments) in CASES.items():
            cases[name] = Case(lab, name, **arguments)
        time.sleep(1.5)  # not for readiness: the verdict shall be of a connection under way, not of its beginning
        watcher = lab.host("watcher")
        for case in cases.values():
            case.program = start_why(watcher, case.pair)
        yield {name: finish(case.program) for name, case in cases.items()}
    finally:
        for case in cases.values():
            case.close()
        lab.close()


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_right(results, name):
    side, cause, least, _ = CASES[name]
    result = results[name]
    verdict = result["verdict"]
    assert result["kind"] == "connection" and result["total"] == 1
    assert (verdict["side"], verdict["cause"]) == (side, cause), verdict
    assert verdict["causes"][cause] >= least, verdict
    assert abs(verdict["network"] + verdict["far_host"] + verdict["this_host"] - 1) < 1e-6
