# SPDX-License-Identifier: Apache-2.0
"""The command line without a network: netsonde check, version, help, and the man pages they print."""
import os
import re
import shutil
import subprocess

import pytest

from netsonde import BINARY

COMMANDS = ("run", "agent", "server", "ping", "top", "why", "doctor", "check", "lab", "version")


def run(*arguments, cwd=None):
    return subprocess.run([BINARY, *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, env={**os.environ, "COLUMNS": "80"})


def test_check_good(tmp_path):
    (tmp_path / "netsonde.yaml").write_text(
        "networks: {web: [10.1.0.0/16], db: [10.2.0.0/24, 'fd00:2::/64']}\n"
        "server: {scrape: {targets: [{name: a, url: 'http://10.0.0.2:9435/metrics'}]}}\n")
    for arguments in ((), ("netsonde.yaml",)):
        done = run("check", *arguments, cwd=tmp_path)
        assert done.returncode == 0 and done.stderr == ""
        lines = done.stdout.splitlines()
        assert lines[0] == "netsonde.yaml: ok" and len(lines) == 4
        assert "2 networks (3 prefixes), tick 1s, 100 top peers" in lines[1]
        assert lines[2] == "  collect: tcp, lookups, drops, processes, interfaces"
        assert "1 target every 1s (timeout 10s), store netsonde.db, raw samples kept for 2d" in lines[3]


@pytest.mark.parametrize("collect, shown", (
    ("{tcp: {rtt: every_ack}, dns: on, drops: off, flows: [eth1, lan0]}",
     "tcp (rtt of every ack), dns, lookups, processes, interfaces, flows of eth1, flows of lan0"),
    ("{tcp: off, lookups: off, drops: off, processes: off, interfaces: off}", "nothing"),
))
def test_check_collect(tmp_path, collect, shown):
    (tmp_path / "n.yaml").write_text(f"collect: {collect}\n")
    done = run("check", "n.yaml", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines()[2] == f"  collect: {shown}"


@pytest.mark.parametrize("probe, shown", (
    ("{targets: [{name: a, address: 10.0.0.1}], peers: top 50, reflect: [eth0, eth1]}",
     "1 target, top 50 peers, 1 probes/s; reflects on eth0, eth1"),
    ("{budget: {packets: 20/s}, targets: [{name: a, address: a.example, interval: 100ms, paths: 8}, {name: b, address: 10.0.0.1}]}",
     "2 targets, 81 probes/s (the budget allows 20: all intervals become at least 4.05 times as long)"),
    ("{reflect: [eth0]}", "0 targets; reflects on eth0"),
    ("{plan: {url: 'http://10.0.0.2/plan.json', targets: 9}}", "0 targets, at most 9 of a plan"),
    ("{passive: off}", None),
))
def test_check_probe(tmp_path, probe, shown):
    (tmp_path / "n.yaml").write_text(f"probe: {probe}\n")
    done = run("check", "n.yaml", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if line.startswith("  probe: ")]
    assert lines == ([f"  probe: {shown}"] if shown else [])


def test_check_bad(tmp_path):
    (tmp_path / "bad.yaml").write_text("server:\n  scrape:\n    intervall: 2s\ncollect: {tick: 5, top_peers: 5000}\n")
    done = run("check", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "bad.yaml:3:5: error: unknown key `intervall` in `server.scrape`; did you mean `interval`?\n"
        "    intervall: 2s\n"
        "    ^~~~~~~~~\n"
        "bad.yaml:4:17: error: expected a duration such as 1s or 250ms, not `5`; write `5s`\n"
        "collect: {tick: 5, top_peers: 5000}\n"
        "                ^\n"
        "bad.yaml:4:31: error: `top_peers` must be 0 to 4096, not 5000\n"
        "collect: {tick: 5, top_peers: 5000}\n"
        "                              ^~~~\n"
        "bad.yaml: 3 errors\n")


def test_check_unreadable(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x7fELF\x02\x01\x01\x00")
    (tmp_path / "big").write_bytes(b"\n" * (1024 * 1024 + 1))
    for name, message in (("absent", "cannot read the configuration: No such file or directory"),
                          (".", "cannot read the configuration: Is a directory"),
                          ("big", "larger than 1 MiB, which no configuration is")):
        done = run("check", name, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"{name}: error: {message}\n"
    done = run("check", "binary", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("binary:1:1: error: control character 0x7f")


def test_example_is_the_defaults(tmp_path):
    done = run("check", "--print-example")
    assert done.returncode == 0 and done.stderr == ""
    (tmp_path / "example.yaml").write_text(done.stdout)
    (tmp_path / "empty.yaml").write_text("")
    shown = [run("check", name, cwd=tmp_path) for name in ("example.yaml", "empty.yaml")]
    assert [one.returncode for one in shown] == [0, 0]
    assert shown[0].stdout.splitlines()[1:] == shown[1].stdout.splitlines()[1:]


@pytest.mark.parametrize("arguments, message", (
    (("serve",), "netsonde: unknown command `serve`; did you mean `server`?"),
    (("xyzzy",), "netsonde: unknown command `xyzzy`; `netsonde help` lists them"),
    (("help", "agnet"), "netsonde: unknown command `agnet`; did you mean `agent`?"),
    (("check", "--print-exampel"), "netsonde check: unknown flag --print-exampel; did you mean --print-example?"),
    (("check", "a", "b"), "netsonde check: unexpected argument `b`"),
    (("version", "x"), "netsonde version: unexpected argument `x`; this command takes only flags"),
))
def test_usage_errors(arguments, message):
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message + "\n")


def test_usage():
    done = run()
    assert done.returncode == 2 and done.stdout == ""
    for arguments in (("--help",), ("-h",), ("help",)):
        asked = run(*arguments)
        assert (asked.returncode, asked.stdout, asked.stderr) == (0, done.stderr, "")
    assert re.findall(r"^  (\w+) +\S", done.stderr, re.M) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    done = run(command, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"Usage: netsonde {command} [flags]")
    assert done.stdout == run("help", command).stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_version():
    done = run("--version")
    assert done.returncode == 0 and re.fullmatch(r"netsonde \d+\.\d+\.\d+\n", done.stdout)
    full = run("version")
    assert full.returncode == 0 and full.stdout == done.stdout + f"Linux {os.uname().release} {os.uname().machine}\n"


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not here")
@pytest.mark.parametrize("arguments", (("help", "--man"), ("check", "--print-man")))
def test_man_pages(arguments):
    page = run(*arguments)
    assert page.returncode == 0 and page.stderr == "" and page.stdout.startswith(".TH NETSONDE")
    shown = subprocess.run(["groff", "-man", "-Tutf8", "-ww"], input=page.stdout, capture_output=True, text=True,
                           timeout=60)
    assert shown.returncode == 0 and shown.stderr == ""
    assert len(shown.stdout) > 1000
