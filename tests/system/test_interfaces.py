# SPDX-License-Identifier: Apache-2.0
"""The agent's interface numbers against `ip -s -j link` and /proc/net/dev, and its events against what the test did.

Named network namespaces are made in a /run/netns of the test's own mount namespace.
"""
import json
import os
import socket
import subprocess
import threading

import pytest

from netlab import wait_for
from netsonde import PATIENCE

PREFIX = "netsonde_interface_"
COUNTERS = {  # metric -> where `ip -s -j link` has it
    "receive_bytes": ("rx", "bytes"), "receive_packets": ("rx", "packets"), "receive_errors": ("rx", "errors"),
    "receive_drops": ("rx", "dropped"), "transmit_bytes": ("tx", "bytes"), "transmit_packets": ("tx", "packets"),
    "transmit_errors": ("tx", "errors"), "transmit_drops": ("tx", "dropped"),
}
ETHERTYPE_EXPERIMENT = 0x88b5  # IEEE 802, local experimental: nobody takes it, so it is dropped
AF_PACKET = 17


@pytest.fixture(autouse=True)
def own_run_netns():
    """An empty /run/netns that nobody else sees and that ends with the test."""
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    yield
    subprocess.run(["umount", "-R", "-l", "/run/netns"], check=True)


def quiet_host(lab, name):
    """Sends nothing by itself: no IPv6."""
    host = lab.host(name)
    host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    host.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    return host


def truth(host, namespace=None):
    """{(metric, device): value} of a namespace; drops with the missed, as /proc/net/dev counts them."""
    command = ["ip", *(["-n", namespace] if namespace else []), "-s", "-j", "link"]
    values = {}
    for link in json.loads(host.run(*command)):
        device = (namespace + "/" if namespace else "") + link["ifname"]
        stats = link["stats64"]
        for metric, (direction, key) in COUNTERS.items():
            values[metric, device] = stats[direction][key]
        values["receive_drops", device] += stats["rx"].get("over_errors", 0)
        values["up", device] = float("UP" in link["flags"] and "LOWER_UP" in link["flags"]
                                     and link["operstate"] in ("UP", "UNKNOWN"))
    return values


def proc_net_dev(host):
    names = ("receive_bytes", "receive_packets", "receive_errors", "receive_drops")
    values = {}
    with host, open("/proc/thread-self/net/dev", encoding="ascii") as file:
        for line in file.readlines()[2:]:
            device, rest = line.split(":")
            numbers = list(map(int, rest.split()))
            for offset, direction in ((0, "receive"), (8, "transmit")):
                for name, number in zip(names, numbers[offset:]):
                    values[name.replace("receive", direction), device.strip()] = number
    return values


def shown(metrics, without=("lo",)):
    values = {}
    for name, labels, value in metrics.samples:
        if not name.startswith(PREFIX) or "device" not in labels:
            continue
        key = (name[len(PREFIX):].removesuffix("_total"), labels["device"])
        assert key not in values, f"{key} is there twice"
        values[key] = value
    return {key: value for key, value in values.items() if key[1] not in without}


def link_events(agent):
    status, _, body = agent.get("/api/v1/events?kind=link", {"Accept": "application/json"})
    assert status == 200, body
    return [(event["code"], event.get("device"), event.get("text")) for event in json.loads(body)["data"]["events"]]


def send_frames(host, device, count, length=200):
    """Frames of an unknown protocol: the receiver counts each as received and dropped."""
    with host:
        sock = socket.socket(AF_PACKET, socket.SOCK_RAW)
    sock.bind((device, 0))
    frame = b"\xff" * 6 + b"\x02" + bytes(5) + ETHERTYPE_EXPERIMENT.to_bytes(2, "big")
    for _ in range(count):
        sock.send(frame.ljust(length, b"n"))
    sock.close()
    return count * length


def add_veth(host, one, two, *extra):
    host.run("ip", "link", "add", one, "type", "veth", "peer", "name", two, *extra)
    host.run("ip", "link", "set", one, "up")


def test_counters(lab, start_agent):
    """Bytes, packets, drops of two namespaces: as the kernel's tools say, and as the test sent."""
    host = quiet_host(lab, "host")
    host.run("ip", "netns", "add", "blue")
    host.run("ip", "netns", "exec", "blue", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
             "net.ipv6.conf.default.disable_ipv6=1")
    add_veth(host, "near0", "far0", "netns", "blue")
    host.run("ip", "-n", "blue", "link", "set", "far0", "up")
    agent = start_agent(host, "collect: {tick: 50ms, namespaces: [blue]}")
    sent = send_frames(host, "near0", 1000)
    wanted = {("transmit_bytes", "near0"): sent, ("transmit_packets", "near0"): 1000,
              ("receive_packets", "blue/far0"): 1000, ("receive_drops", "blue/far0"): 1000}
    metrics = agent.settle()
    values = shown(metrics, ("lo", "blue/lo"))
    assert {key: values[key] for key in wanted} == wanted
    expected = {**truth(host), **truth(host, "blue")}
    assert values == {key: value for key, value in expected.items() if not key[1].endswith("lo")}
    assert {key: value for key, value in proc_net_dev(host).items() if key[1] == "near0"} == \
        {key: value for key, value in values.items() if key[1] == "near0" and key[0] != "up"}
    # A virtual cable has no speed, whatever its driver says.
    assert not metrics.select(PREFIX + "speed_bytes")
    # No carrier without the other end; both are told.
    host.run("ip", "-n", "blue", "link", "set", "far0", "down")
    agent.wait_metrics(lambda m: {key: v for key, v in shown(m).items() if key[0] == "up" and "0" in key[1]},
                       {("up", "near0"): 0, ("up", "blue/far0"): 0})


def test_speed(lab, start_agent):
    """A device with a speed, where the kernel can make one: as /sys has it, and absent while it is down."""
    host = quiet_host(lab, "host")
    add_veth(host, "near0", "far0")
    host.run("ip", "link", "set", "far0", "up")
    try:
        host.run("ip", "link", "add", "link", "near0", "name", "near0.5", "type", "vlan", "id", "5")
    except AssertionError:
        pytest.skip("this kernel has no VLANs")
    host.run("ip", "link", "set", "near0.5", "up")
    agent = start_agent(host, "collect: {tick: 50ms}")
    megabits = int(host.run("unshare", "-m", "sh", "-c", "mount -t sysfs s /sys && cat /sys/class/net/near0.5/speed"))
    agent.wait_metrics(lambda m: m.select(PREFIX + "speed_bytes"), [({"device": "near0.5"}, megabits * 125000)])
    host.run("ip", "link", "set", "far0", "down")
    agent.wait_metrics(lambda m: m.select(PREFIX + "speed_bytes"), [])


def test_events_between_ticks(lab, start_agent):
    """A tick of a second, and everything that happens to a link within much less: each step is an event, in order."""
    host = quiet_host(lab, "host")
    add_veth(host, "near0", "far0")
    host.run("ip", "link", "set", "far0", "up")
    agent = start_agent(host, "collect: {tick: 1s}")
    agent.settle(1)
    assert not [event for event in link_events(agent) if event[0] == "added"]
    for batch, up in ((("near0 down", "near0 up"), "near0"), (("near0 down", "near0 name other0", "other0 up"), "other0")):
        host.run("ip", "-b", "-", input="".join(f"link set {change}\n" for change in batch))
        # The kernel itself takes a moment from "switched on" to "operational".
        wait_for(lambda d=up: truth(host)["up", d], 5 * PATIENCE, f"{up} is up")
    host.run("ip", "-b", "-", input="link add brief0 type veth peer name feirb0\nlink delete brief0\n")
    wanted = [("down", "near0", None), ("up", "near0", None), ("down", "near0", None), ("renamed", "other0", "near0"),
              ("up", "other0", None)]

    def of(*devices):
        return [event for event in link_events(agent) if event[1] in devices]

    wait_for(lambda: len(of("near0", "other0")) >= len(wanted) and of("brief0"), 10 * PATIENCE, lambda: link_events(agent))
    assert of("near0", "other0") == wanted
    assert of("brief0") == [("added", "brief0", None), ("removed", "brief0", None)]
    assert agent.metrics().sum("netsonde_events_total", kind="link") == len(link_events(agent))


def test_names_that_wander(lab, start_agent):
    """Two devices change names, and one is made anew, again and again, with somebody scraping all the while. No scrape has
    a name twice, and at rest each name has the counters of the device that bears it."""
    host = quiet_host(lab, "host")
    for one, two in (("big", "gib"), ("small", "llams")):
        add_veth(host, one, two)
        host.run("ip", "link", "set", two, "up")
    agent = start_agent(host, "collect: {tick: 20ms}")
    stop = threading.Event()
    problems, scrapes = [], 0

    def scrape():
        nonlocal scrapes
        while not stop.is_set():
            try:
                shown(agent.metrics())
                scrapes += 1
            except Exception as error:  # pylint: disable=broad-except
                problems.append(error)
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        # Down for that, since before Linux 6.2 no interface that is up can be renamed.
        swap = "".join(f"link set {change}\n" for change in (
            "big down", "small down", "big name passing", "small name big", "passing name small", "big up", "small up"))
        # A new device with the name and the index of the old one.
        anew = "link delete big\nlink add big index 4000 type veth peer name gib index 4001\nlink set big up\nlink set gib up\n"
        for number in range(4):
            send_frames(host, "big", 50 + number, 1000)
            send_frames(host, "small", 3)
            for batch in (swap * 5, swap * 3 + anew):
                host.run("ip", "-b", "-", input=batch)
                agent.wait_metrics(shown, {key: value for key, value in truth(host).items() if key[1] != "lo"})
    finally:
        stop.set()
        thread.join()
    assert not problems and scrapes > 20, (problems, scrapes)


def test_namespace_missing_and_deleted(lab, start_agent):
    """A namespace that is not there is a missing feature; one that is deleted is let go, so that it really ends."""
    host = quiet_host(lab, "host")
    for name in ("blue", "green"):
        host.run("ip", "netns", "add", name)
        add_veth(host, name + "0", "far0", "netns", name)
    agent = start_agent(host, "collect: {tick: 50ms, namespaces: [blue, absent, green]}")

    def namespaces(metrics):
        return {key[1].split("/")[0] for key in shown(metrics) if "/" in key[1]}

    def feature():
        data = json.loads(agent.get("/api/v1/features")[2])["data"]
        return next(f for f in data["features"] if f["feature"] == "interface_namespaces")

    assert namespaces(agent.metrics()) == {"blue", "green"}
    assert not feature()["enabled"] and "absent: /run/netns/absent does not exist" in feature()["reason"]
    host.run("ip", "netns", "delete", "blue")
    # Its end of the cable is gone only when nothing holds the namespace any more, and the other end goes with it.
    wait_for(lambda: "blue0" not in host.run("ip", "link"), 5 * PATIENCE, "blue ended")
    agent.wait_metrics(namespaces, {"green"})
    assert "blue: it was deleted" in feature()["reason"]
    assert any(line["msg"].startswith("no longer watching") and line["namespace"] == "blue" for line in agent.log())
    # A new one of the same name is another one, and entering it takes rights that were given up.
    host.run("ip", "netns", "add", "blue")
    host.run("ip", "netns", "delete", "green")
    host.run("ip", "netns", "add", "green")
    wait_for(lambda: "green0" not in host.run("ip", "link"), 5 * PATIENCE, "green ended")
    agent.wait_metrics(namespaces, set())
    assert "green: " in feature()["reason"]


def test_namespace_of_a_process(lab, start_agent):
    """/proc/PID/ns/net, which the agent may not look at once it has no privileges: let go when the process ends. The same by
    a link in /run/netns."""
    host = quiet_host(lab, "host")
    holders = []
    for number in range(2):
        holder = host.popen(["unshare", "-n", "sleep", "600"])
        holders.append(holder)
        own = os.stat(f"/proc/{os.getpid()}/ns/net").st_ino
        with host:
            own_host = os.stat("/proc/thread-self/ns/net").st_ino
        wait_for(lambda h=holder: os.stat(f"/proc/{h.pid}/ns/net").st_ino not in (own, own_host), 5, "unshared")
        add_veth(host, f"held{number}", "far0", "netns", f"/proc/{holder.pid}/ns/net")
    os.symlink(f"/proc/{holders[1].pid}/ns/net", "/run/netns/linked")
    try:
        agent = start_agent(host, f"collect: {{tick: 50ms, namespaces: [/proc/{holders[0].pid}/ns/net, linked]}}")

        def namespaces(metrics):
            return {key[1].split("/")[0] for key in shown(metrics) if "/" in key[1]}

        assert namespaces(agent.settle()) == {str(holders[0].pid), "linked"}
        for number, left in enumerate(({"linked"}, set())):
            holders[number].kill()
            holders[number].wait()
            wait_for(lambda n=number: f"held{n}" not in host.run("ip", "link"), 5 * PATIENCE, "the namespace ended")
            agent.wait_metrics(namespaces, left)
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def test_many_come_and_go(lab, start_agent):
    """Interfaces made and deleted all the while, with a queue's worth of notifications per tick: at rest all is right."""
    host = quiet_host(lab, "host")
    agent = start_agent(host, "collect: {tick: 200ms, events_per_second: 10}")
    lines = []
    for number in range(150):
        lines += [f"link add come{number} type veth peer name emoc{number}", f"link set come{number} up"]
        if number >= 30:
            lines.append(f"link delete come{number - 30}")
    host.run("ip", "-b", "-", input="\n".join(lines))
    agent.wait_metrics(shown, {key: value for key, value in truth(host).items() if key[1] != "lo"})
    metrics = agent.metrics()
    # Nothing but overflows of the queue may have been lost, and more than the allowance is suppressed, and counted.
    assert metrics.sum("netsonde_lost_events_total", source="interface_message") == 0
    assert metrics.sum("netsonde_events_suppressed_total", kind="link") > 0
