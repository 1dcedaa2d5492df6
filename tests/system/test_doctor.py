# SPDX-License-Identifier: Apache-2.0
"""What doctor says of this host, and what agent and doctor say where something is missing: one clear line, exit 1."""
import json
import os
import shutil
import subprocess
import tempfile

import netsonde
import pytest

NOBODY = 65534
HIDE_BTF = 'mount -t tmpfs none /sys/kernel/btf && exec "$0" "$@"'


@pytest.fixture(scope="module")
def public_binary():
    """A copy where an ordinary user gets at it: the checkout may lie below a directory that is closed to others."""
    directory = tempfile.mkdtemp(prefix="netsonde-test-")
    os.chmod(directory, 0o755)
    yield shutil.copy(netsonde.BINARY, directory)
    shutil.rmtree(directory)


def run(*arguments, without_btf=False, user=None, binary=None):
    command = [binary or netsonde.BINARY, *arguments]
    if without_btf:
        command = ["unshare", "-m", "sh", "-c", HIDE_BTF, *command]
    return subprocess.run(command, capture_output=True, text=True, user=user, timeout=60, cwd="/",
                          env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})


def lines(text):
    return [line for line in text.splitlines() if line]


def test_doctor_finds_everything_here():
    done = run("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["works"]
    modes = {feature["feature"]: feature["mode"] for feature in report["features"] if feature["enabled"]}
    assert modes["tcp"] == "tp_btf"
    assert modes["tcp_sweep"] in ("iter", "iter_files")
    text = run("doctor").stdout
    for feature, mode in modes.items():
        assert any(line.split() == ["ok", feature, mode] for line in lines(text)), (feature, mode, text)


def test_doctor_as_an_ordinary_user(public_binary):
    done = run("doctor", user=NOBODY, binary=public_binary)
    assert done.returncode == 1
    assert "CAP_BPF" in done.stdout and "run as root" in done.stdout
    assert "The agent does not work here" in done.stdout


def test_agent_as_an_ordinary_user(public_binary):
    done = run("agent", "--web.listen-address=127.0.0.1:0", user=NOBODY, binary=public_binary)
    assert done.returncode == 1
    assert len(lines(done.stderr)) == 1, done.stderr
    assert "no permission; run as root, or with CAP_BPF and CAP_PERFMON" in done.stderr


def kernel_image_has_btf():
    """libbpf looks for BTF in kernel images, too."""
    release = os.uname().release
    return any(os.path.exists(path) for path in (f"/boot/vmlinux-{release}", f"/lib/modules/{release}/vmlinux-{release}",
                                                  f"/usr/lib/debug/boot/vmlinux-{release}"))


@pytest.mark.skipif(kernel_image_has_btf(), reason="BTF is in a kernel image here, so it cannot be hidden")
def test_a_kernel_without_btf(lab, programs):
    """TCP is lost, with the reason; what needs no BTF goes on."""
    report = run("doctor", without_btf=True)
    assert report.returncode == 1
    assert any(line.split()[:2] == ["no", "BTF"] for line in lines(report.stdout)), report.stdout
    agent = netsonde.Agent(programs, lab.host("watcher"), wrapper=["unshare", "-m", "sh", "-c", HIDE_BTF])
    netsonde.Daemon.wait_ready(agent)
    features = {f["feature"]: f for f in json.loads(agent.get("/api/v1/features")[2])["data"]["features"]}
    assert not features["tcp"]["enabled"] and "this kernel has no BTF" in features["tcp"]["reason"], features["tcp"]
    assert "CONFIG_DEBUG_INFO_BTF=y" in features["tcp"]["reason"]
    assert features["interfaces"]["enabled"]
    assert agent.metrics().select("netsonde_interface_up", device="lo")
    assert agent.get("/api/v1/connections")[0] == 503
    agent.stop()


def test_unknown_flags_name_the_nearest():
    done = run("doctor", "--jsno")
    assert done.returncode == 2
    assert lines(done.stderr) == ["netsonde doctor: unknown flag --jsno; did you mean --json?"]
