# SPDX-License-Identifier: Apache-2.0
"""Where the probes of a real agent attach: what it says of it, what is on the interface, who else may, what becomes of it when
the interface is made anew (the agent has no privileges by then), and that a killed agent leaves nothing.
"""
import json
import signal

import pytest

import netsonde
from netlab import wait_for
from netsonde import KernelObjects
from probelab import config, counts, target, timestamps, wait_counts

# attach: (device_info's receive, send, the timestamp of answers, what `ip link` shows)
MODES = {
    "auto": ("tcx", "tcx", "tc", None),
    "xdp": ("xdp", "tcx", "xdp", 1),
    "xdp_generic": ("xdp_generic", "tcx", "xdp_generic", 2),
    "socket": ("packet_socket", "packet_socket", "tc", None),
    "off": ("off", "off", "kernel", None),
}


def attached_xdp(end):
    """The mode of the XDP program on an interface, as the kernel says it (1 native, 2 generic), or None."""
    link, = json.loads(end.host.run("ip", "-json", "-details", "link", "show", end.device))
    return link.get("xdp", {}).get("mode")


def device_info(agent, device):
    return [(labels["receive"], labels["send"]) for labels, _ in
            agent.metrics().select("netsonde_probe_device_info", device=device)]


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def answered(agent, more):
    """`more` further probes are answered; nothing is lost from then on."""
    before = counts(agent.metrics(), "far")
    return wait_counts(agent, "far", lambda c: c["received"] >= before["received"] + more, f"{more} more answers")


def remake(near, far):
    """The link is deleted and made again: same names, same addresses, another index."""
    for end in (near, far):
        end.index = int(end.host.run("ip", "-o", "link", "show", end.device).split(":")[0])
    near.host.run("ip", "link", "del", near.device)
    near.host.run("ip", "link", "add", near.device, "type", "veth", "peer", "name", far.device, "netns", far.host.path)
    for end in (near, far):
        for address in (f"{end.v4}/24", f"{end.v6}/64"):
            end.host.run("ip", "address", "add", address, "dev", end.device, *(["nodad"] if ":" in address else []))
        end.host.run("ip", "link", "set", end.device, "up")
        assert int(end.host.run("ip", "-o", "link", "show", end.device).split(":")[0]) != end.index


@pytest.mark.parametrize("attach", MODES)
def test_each_way(lab, start_agent, attach):
    receive, send, timestamp, shown = MODES[attach]
    near, far = lab.link(lab.host("near"), lab.host("far"))
    agent = start_agent(near.host, config([target("far", far.v4)], attach=attach))
    answered(agent, 3)
    assert device_info(agent, near.device) == [(receive, send)]
    # The first packet behind a socket's wish for timestamps has none.
    assert set(timestamps(agent.metrics(), "far")) - {"user"} == {timestamp}
    assert attached_xdp(near) == shown
    assert attached_xdp(far) is None


@pytest.mark.parametrize("attach", ("auto", "xdp", "socket"))
def test_the_interface_is_made_anew(lab, start_agent, attach):
    """Under the eyes of an agent that is nobody, may nothing, and cannot become anything else."""
    receive, send, timestamp, shown = MODES[attach]
    near, far = lab.link(lab.host("near"), lab.host("far"))
    agent = start_agent(near.host, config([target("far", far.v4)], attach=attach))
    answered(agent, 3)
    status = status_of(agent.pid)
    assert status["CapEff"].strip("0") == status["CapPrm"].strip("0") == "" and status["Uid"].split()[0] != "0"
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    remake(near, far)
    before = counts(agent.metrics(), "far")
    wait_for(lambda: device_info(agent, near.device) == [(receive, send)], 10 * netsonde.PATIENCE, "attached again")
    wait_counts(agent, "far", lambda c: c["received"] >= before["received"] + 3, "answers by the new link")
    assert attached_xdp(near) == shown
    assert set(timestamps(agent.metrics(), "far")) - {"kernel", "user"} == {timestamp}


def test_a_reflector_is_made_anew(lab, start_agent):
    """Both ends: one probes, the other reflects."""
    near, far = lab.link(lab.host("near"), lab.host("far"))
    reflector = start_agent(far.host, config([], reflect=[far.device]))
    agent = start_agent(near.host, config([target("far", far.v4, "stamp")]))
    answered(agent, 3)
    remake(near, far)
    wait_for(lambda: device_info(reflector, far.device) == [("tcx", "tcx")], 10 * netsonde.PATIENCE, "attached again")
    answered(agent, 3)
    assert reflector.metrics().sum("netsonde_xdp_packets_total", device=far.device, action="reflect") >= 3


@pytest.mark.parametrize("attach", ("auto", "xdp"))
def test_a_killed_agent_leaves_nothing(lab, programs, attach):
    near, far = lab.link(lab.host("near"), lab.host("far"))
    agent = netsonde.Agent(programs, near.host, config([target("far", far.v4)], attach=attach, reflect=[near.device]))
    agent.wait_ready()
    answered(agent, 3)
    held = KernelObjects.held_by(agent.pid)
    assert {kind for kind, _ in held} == set(KernelObjects.KINDS)
    agent.program.signal(signal.SIGKILL)
    agent.program.wait(10)
    KernelObjects.wait_gone(held)
    assert attached_xdp(near) is None
    assert not json.loads(near.host.run("bpftool", "-j", "net", "show", "dev", near.device))[0].get("tc")


def test_one_agent_per_network(lab, start_agent, programs):
    """A second one may not probe and is told who does; it goes on without. Elsewhere there is another one; and ping may always."""
    near, far = lab.link(lab.host("near"), lab.host("far"))
    agent = start_agent(near.host, config([target("far", far.v4)], attach="xdp"))
    second = start_agent(near.host, config([target("far", far.v4)], attach="tc").replace('"drops": "off", ', ""))
    missing, = [line for line in second.log() if line["msg"] == "feature missing" and line["name"] == "probe"]
    assert missing["reason"] == f"another netsonde (PID {agent.pid}) probes from this network namespace; stop it first"
    assert not counts(second.metrics(), "far")["sent"]
    elsewhere = start_agent(far.host, config([target("far", near.v4)]))
    answered(elsewhere, 3)
    ping = programs.start(near.host, [netsonde.BINARY, "ping", "-c", "3", "-i", "0.05", far.v4], "ping")
    assert ping.wait(10) == 0, ping.err
    answered(agent, 3)
    assert attached_xdp(near) == 1


def test_xdp_is_taken(lab, start_agent, programs):
    """By another process, which keeps it; who comes second takes what is left, and XDP when it is free."""
    near, far = lab.link(lab.host("near"), lab.host("far"))
    ping = programs.start(near.host, [netsonde.BINARY, "ping", "--attach=xdp_generic", "-c", "100000", far.v4], "ping")
    wait_for(lambda: attached_xdp(near) == 2, 10 * netsonde.PATIENCE, "XDP of ping")
    agent = start_agent(near.host, config([target("far", far.v4)], attach="xdp"))
    answered(agent, 3)
    assert device_info(agent, near.device) == [("off", "tcx")]
    assert set(timestamps(agent.metrics(), "far")) <= {"kernel", "user"}
    assert attached_xdp(near) == 2
    ping.signal(signal.SIGKILL)
    wait_for(lambda: device_info(agent, near.device) == [("xdp", "tcx")], 10 * netsonde.PATIENCE, "XDP when it is free")
    wait_for(lambda: "xdp" in timestamps(agent.metrics(), "far"), 10 * netsonde.PATIENCE, "answers timed by XDP")
