# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser: starts `netsonde run` beside real traffic, then the node tests of tests/web.

What node reports goes, as TAP, to web.tap in NETSONDE_TEST_LOGS, from where tools/test adds up the single tests.
"""
import glob
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

import netsonde
from running import SERVER, Run
from traffic import LoopbackTraffic

TESTS = os.path.join(netsonde.ROOT, "tests", "web")
TIMEOUT_S = 420

# A name from a configuration is shown to a browser, which must take it for text.
HOSTILE_PEER = "<img src=x onerror=alert(1)>"
HOSTILE_ADDRESS = "127.0.0.7"


class Restarter:
    """Restarts the run whenever somebody connects to a Unix socket, and answers when it is up again.

    One thread for all of it: a process started by a thread dies with that thread (PR_SET_PDEATHSIG).
    """

    def __init__(self, programs, host, config):
        self.config = config
        self.path = os.path.join(programs.directory, "restart")
        self.programs, self.host = programs, host
        self.run = None
        self.error = None
        self.started = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        assert self.started.wait(netsonde.READY_S * 2) and not self.error, self.error

    @property
    def command(self):
        code = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
                "sys.exit(0 if s.recv(2)==b'ok' else 1)")
        return shlex.join([sys.executable, "-c", code, self.path])

    def _start(self):
        try:
            self.run = Run(self.programs, self.host, "--config.file", self.config)
        except BaseException as error:
            self.error = error
            raise

    def _work(self):
        try:
            self._start()
        finally:
            self.started.set()
        while True:
            try:
                asked = self.listener.accept()[0]
            except OSError:
                return
            with asked:
                self.run.program.signal(signal.SIGINT)
                assert self.run.program.wait(10) == 0, self.run.program.err
                self._start()
                asked.sendall(b"ok")

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.listener.close()


@pytest.mark.deadline(TIMEOUT_S + 60)
def test_dashboard_in_a_browser(lab, programs):
    for program in ("node", "chromium"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    tests = sorted(glob.glob(os.path.join(TESTS, "*.test.mjs")))
    assert tests, f"no *.test.mjs in {TESTS}"
    logs = os.environ.get("NETSONDE_TEST_LOGS", programs.directory)
    host = lab.host("desk")
    config = os.path.join(programs.directory, "netsonde.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"networks: {{'{HOSTILE_PEER}': [{HOSTILE_ADDRESS}/32]}}\n")
    traffic = LoopbackTraffic(host, ("127.0.0.1", HOSTILE_ADDRESS))
    restarter = Restarter(programs, host, config)
    try:
        modules = os.path.join(os.path.dirname(netsonde.BINARY), "tests", "web", "node_modules")
        assert os.path.isdir(modules), f"no {modules}: web/build.py modules, which tools/test runs, makes it"
        environment = {**programs.environment, "NETSONDE_URL": f"http://{SERVER[0]}:{SERVER[1]}",
                       "NETSONDE_ARTEFACTS": logs, "NETSONDE_RESTART_CMD": restarter.command,
                       "NETSONDE_HOSTILE_PEER": HOSTILE_PEER, "NETSONDE_BINARY": netsonde.BINARY}
        # Tests in one file after another: they share one netsonde, and some restart it.
        with host, open(os.path.join(logs, "web.tap"), "w", encoding="utf-8") as tap:
            status = subprocess.run(["node", "--test", "--test-concurrency=1", "--test-reporter=tap", *tests],
                                    check=False, cwd=TESTS, env=environment, stdin=subprocess.DEVNULL, stdout=tap,
                                    stderr=subprocess.STDOUT, timeout=TIMEOUT_S).returncode
        with open(os.path.join(logs, "web.tap"), encoding="utf-8", errors="replace") as tap:
            output = tap.read()
        print(output)
        assert status == 0, f"node --test ended with {status}"
        run = restarter.run
        run.program.signal(signal.SIGINT)
        assert run.program.wait(10) == 0, run.program.err
        run.assert_nothing_left()
    finally:
        restarter.stop()
        traffic.stop()
