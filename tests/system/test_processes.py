# SPDX-License-Identifier: Apache-2.0
"""Programs that start and end, and the host lookups of applications, against what the test and the applications did.

Both are of the whole machine, where others may be at work too. So events are told by a name that is nobody else's, and
lookups by how long they take: the name server answers late, by times that fall into buckets of their own.
"""
import collections
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from netlab import die_with_parent, wait_for
from netsonde import PATIENCE, Agent

CONFIG = "collect: {tick: 100ms, events_per_second: 10000, interfaces: off, drops: off}\n"

# Programs.

EXECS, EXITS = "netsonde_process_execs_total", "netsonde_process_exits_total"

THREADS = """
import threading, time
threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def forks():
    """Tasks made since the boot, threads too."""
    with open("/proc/stat", encoding="ascii") as file:
        return int(re.search(r"^processes (\d+)$", file.read(), re.MULTILINE)[1])


def processes():
    return sum(name.isdigit() for name in os.listdir("/proc"))


class Events:
    """The agent's event stream of one kind, from now on."""

    def __init__(self, agent, kind):
        self.agent, self.kind = agent, kind
        self.since = self._get()["newest"]
        self.events = []

    def _get(self):
        path = f"/api/v1/events?kind={self.kind}&since={getattr(self, 'since', 0)}"
        status, _, body = self.agent.get(path, {"Accept": "application/json"})
        assert status == 200, body
        return json.loads(body)["data"]

    def select(self, **fields):
        data = self._get()
        assert data["complete"], "the machine is too busy for this test: more events than are kept"
        self.events += data["events"]
        self.since = max([self.since, *(event["id"] for event in data["events"])])
        return [event for event in self.events if all(event.get(key) == value for key, value in fields.items())]


def test_programs_that_start_and_end(lab, start_agent, tmp_path):
    agent = start_agent(lab.host("watcher"), CONFIG)
    ours = str(tmp_path / "program-of-this-test")
    shutil.copy("/bin/sleep", ours)
    text = tmp_path / "text"
    text.write_text("no program\n")
    text.chmod(0o755)
    execs, exits = Events(agent, "exec"), Events(agent, "exit")
    forks_before, processes_before = forks(), processes()
    before = agent.settle()

    codes = collections.Counter()
    for _ in range(60):
        codes["exited", subprocess.run([ours, "0"], check=False).returncode] += 1
    for _ in range(5):
        codes["exited", subprocess.run([ours, "nonsense"], check=False, stderr=subprocess.DEVNULL).returncode] += 1
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGABRT):
        program = subprocess.Popen([ours, "60"], preexec_fn=die_with_parent)
        program.send_signal(number)
        assert program.wait() == -number
        codes["killed", number.name.removeprefix("SIG")] += 1
    with pytest.raises(OSError):
        subprocess.run([str(text)], check=False)
    with pytest.raises(FileNotFoundError):
        subprocess.run([ours + "-not"], check=False)
    # Ends as one process, though it has 21 threads.
    subprocess.run(["/usr/bin/python3", "-c", THREADS], check=True)
    # A fork that executes nothing has an end, but no start.
    pid = os.fork()
    if not pid:
        os._exit(7)
    assert os.waitpid(pid, 0)[1] == 7 << 8

    # What the tail of the path is, the kernel and the agent see alike.
    name = ours[-47:]
    wait_for(lambda: len(execs.select(text=name)) >= 68, 5 * PATIENCE, lambda: f"68 programs: {len(execs.select(text=name))}")
    wait_for(lambda: exits.select(pid=pid), 5 * PATIENCE, "the fork's end")
    after = agent.settle()
    forked = forks() - forks_before

    assert len(execs.select(text=name)) == 68
    assert not execs.select(text=str(text)[-47:]) and not execs.select(text=(ours + "-not")[-47:])
    assert [(event["code"], event["status"]) for event in exits.select(pid=pid)] == [("exited", 7)]
    pids = {event["pid"] for event in execs.select(text=name)}
    ends = collections.Counter((event["code"], event.get("status", event.get("signal"))) for event in exits.select()
                               if event["pid"] in pids)
    assert ends == codes

    counted = {family: after.sum(family) - before.sum(family) for family in (EXECS, EXITS)}
    assert counted[EXECS] >= 68 + 1
    # The two failed starts were processes too, and what ends was there before, or was made meanwhile.
    assert 68 + 2 + 1 + 1 <= counted[EXITS] <= forked + processes_before
    assert after.sum("netsonde_lost_events_total", source="process_recursion") == 0


# Lookups.

DURATION = "netsonde_host_lookup_duration_seconds"
FUNCTIONS = ["getaddrinfo", "gethostbyname", "gethostbyname2", "gethostbyname_r", "gethostbyname2_r"]
CODES = {"ok": 0, "formerr": 1, "servfail": 2, "nx": 3}


class NameServer:
    """On 127.0.0.1 of a host. "ok-150.test" is answered after 150 ms; the first word says with what."""

    def __init__(self, host):
        with host:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                query, client = self.socket.recvfrom(512)
            except OSError:
                return
            label = query[13:13 + query[12]].decode()
            verdict, delay = label.split("-")
            threading.Timer(int(delay) / 1000, self._answer, (query, client, CODES[verdict])).start()

    def _answer(self, query, client, code):
        end = query.index(b"\0", 12) + 5
        data = code == 0 and query[end - 4:end - 2] == b"\0\1"
        header = query[:2] + bytes([0x81, 0x80 | code]) + b"\0\1" + (b"\0\1" if data else b"\0\0") + bytes(4)
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\1" if data else b""
        try:
            self.socket.sendto(header + query[12:end] + record, client)
        except OSError:
            pass  # the test is over

    def close(self):
        self.socket.close()


class Client:
    """lookup_client, running; all its calls, as (outcome, seconds)."""

    def __init__(self, host, command, etc):
        binds = "".join(f"mount --bind {etc}/{name} /etc/{name} && " for name in os.listdir(etc))
        if command[0] == "chroot":  # has its own /etc
            binds = ""
        with host:
            self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", binds + 'exec "$0" "$@"', *command], text=True,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        self.calls = []
        assert self.process.stdout.readline() == "ready\n"

    def call(self, function, name):
        self.process.stdin.write(f"{function} {name}\n")
        self.process.stdin.flush()
        outcome, ns = self.process.stdout.readline().split()
        self.calls.append((outcome, int(ns) / 1e9))

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def shared_libraries(program):
    """What it is linked with, and its dynamic linker, as the real loader says."""
    out = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", out)


def make_root(directory, program, libraries, etc):
    """The least that a container needs, with files of its own."""
    for library in libraries:
        os.makedirs(directory + os.path.dirname(library), exist_ok=True)
        shutil.copy(library, directory + library)
    shutil.copytree(etc, directory + "/etc")
    shutil.copy(program, directory + "/client")
    return directory


@pytest.fixture
def containers(lab, tmp_path):
    """Makes clients in containers, and the files that all of them need."""
    host = lab.host("near")
    etc, program = str(tmp_path / "etc"), str(tmp_path / "client")
    os.mkdir(etc)
    for name, text in {"resolv.conf": "nameserver 127.0.0.1\noptions timeout:3 attempts:1\n",
                       "hosts": "127.0.0.1 localhost\n", "nsswitch.conf": "hosts: files dns\n"}.items():
        with open(os.path.join(etc, name), "w", encoding="ascii") as file:
            file.write(text)
    source = os.path.join(os.path.dirname(__file__), "lookup_client.c")
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)
    server, clients, mounts = NameServer(host), {}, []

    class Containers:
        def plain(self, name):
            clients[name] = Client(host, [program], etc)

        def copied(self, name):
            root = make_root(str(tmp_path / name), program, shared_libraries(program), etc)
            clients[name] = Client(host, ["chroot", root, "/client"], etc)
            return root

        def overlaid(self, names):
            """Containers of one image; False where that is not possible."""
            image = make_root(str(tmp_path / "image"), program, shared_libraries(program), etc)
            for name in names:
                parts = {part: str(tmp_path / f"{name}-{part}") for part in ("upper", "work", "root")}
                for part in parts.values():
                    os.mkdir(part)
                options = f"lowerdir={image},upperdir={parts['upper']},workdir={parts['work']}"
                if subprocess.run(["mount", "-t", "overlay", "none", "-o", options, parts["root"]], check=False).returncode:
                    return False
                mounts.append(parts["root"])
                clients[name] = Client(host, ["chroot", parts["root"], "/client"], etc)
            return True

        def musl(self, name):
            compiler = shutil.which("musl-gcc")
            if not compiler:
                return False
            other = str(tmp_path / "client-musl")
            subprocess.run([compiler, "-O2", "-o", other, source], check=True)
            linker = re.search(r"interpreter: (/\S+?)\]", subprocess.run(["readelf", "-l", other], check=True,
                                                                         capture_output=True, text=True).stdout)[1]
            root = make_root(str(tmp_path / name), other, [], etc)
            os.mkdir(root + "/lib")
            shutil.copy(linker, root + linker)
            clients[name] = Client(host, ["chroot", root, "/client"], etc)
            return True

    made = Containers()
    made.host, made.clients = host, clients
    yield made
    for client in clients.values():
        client.close()
    server.close()
    for mount in mounts:
        subprocess.run(["umount", "-l", mount], check=False)


def octave(seconds):
    """The bucket of the text format: its upper bound, a power of two."""
    bound = 2.0 ** -20
    while bound < seconds:
        bound *= 2
    return bound


def buckets(metrics):
    """{(outcome, upper bound): how many}, of those that are longer than 2^-4 s."""
    counts = collections.defaultdict(dict)
    for labels, value in metrics.select(DURATION + "_bucket"):
        counts[labels["outcome"]][float(labels["le"])] = value
    result = {}
    for outcome, cumulative in counts.items():
        below = 0
        for bound, value in sorted(cumulative.items()):
            if value > below and bound > 2 ** -4:
                result[outcome, bound] = value - below
            below = value
    return result


def libraries_in_use():
    """How many C library files processes have mapped, by device and inode."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
                for line in file:
                    if re.search(r" r-xp .*/(libc\.so\.6|libc-2\.\d+\.so|libc\.so|ld-musl-[^/]*\.so\.1)( \(deleted\))?$", line):
                        entry = os.stat(f"/proc/{pid}/map_files/{line.split()[0]}")
                        found.add((entry.st_dev, entry.st_ino))
                        break
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return len(found)


def test_lookups_as_applications_see_them(lab, start_agent, containers):
    clients = containers.clients
    containers.plain("host")
    containers.copied("container")
    os.remove(containers.copied("upgraded") + shared_libraries("/bin/true")[0])  # below the running process
    overlay = containers.overlaid(["pod-one", "pod-two"])
    musl = containers.musl("musl")
    used = [libraries_in_use()]
    agent = start_agent(lab.host("watcher"), CONFIG)
    used.append(libraries_in_use())
    containers.plain("started later")

    metrics = agent.metrics()
    watched = metrics.sum("netsonde_host_lookup_libraries", state="watched")
    # Two overlay mounts of one image are one file below.
    assert min(used) - overlay <= watched <= max(used) - overlay, (used, watched)
    assert metrics.sum("netsonde_host_lookup_libraries", state="unwatched") == 0
    before = buckets(metrics)

    def work(name, client):
        for function in FUNCTIONS:
            for answer in ("ok-150.test", "nx-300.test", "formerr-90.test", "servfail-170.test"):
                # musl asks again until its time is up, which would make this test long.
                if name != "musl" or answer.startswith(("ok", "nx")) or (function, answer) == ("gethostbyname", "servfail-170.test"):
                    client.call(function, answer)
        for _ in range(200):
            client.call("getaddrinfo", "127.0.0.1")

    threads = [threading.Thread(target=work, args=item) for item in clients.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = collections.Counter()
    for name, client in clients.items():
        assert len(client.calls) == (11 if name == "musl" else 20) + 200, name
        for outcome, seconds in client.calls[:-200]:
            expected[outcome, octave(seconds)] += 1
    expected += collections.Counter(before)
    assert len({outcome for outcome, _ in expected}) == 4, expected
    agent.wait_metrics(buckets, dict(expected))
    metrics = agent.metrics()
    # An address in the place of a name is no lookup: there were 200 of them for each client.
    assert metrics.sum(DURATION + "_count", outcome="success") < 200
    for source in ("lookup_record", "lookup_abandoned", "lookup_recursion"):
        assert metrics.sum("netsonde_lost_events_total", source=source) == 0, source
    if not musl:
        print("musl-gcc is not here: musl was not tried")


def test_without_the_right_to_probe(lab, programs):
    """Only the lookups are lost, with what would help."""
    agent = Agent(programs, lab.host("watcher"), CONFIG,
                  wrapper=["setpriv", "--bounding-set", "-sys_admin,-checkpoint_restore", "--"])
    agent.wait_ready()
    features = {f["feature"]: f for f in json.loads(agent.get("/api/v1/features")[2])["data"]["features"]}
    assert not features["lookups"]["enabled"]
    assert "run as root" in features["lookups"]["reason"], features["lookups"]
    assert features["tcp"]["enabled"] and features["processes"]["enabled"]
    assert not agent.metrics().select(DURATION + "_count")
    agent.stop()


def test_turned_off(lab, start_agent):
    agent = start_agent(lab.host("watcher"), "collect: {processes: off, lookups: off}\n")
    features = {f["feature"]: f for f in json.loads(agent.get("/api/v1/features")[2])["data"]["features"]}
    for name in ("lookups", "processes"):
        assert not features[name]["enabled"] and "collect." + name in features[name]["reason"], features[name]
    metrics = agent.metrics()
    assert not metrics.select(EXECS) and not metrics.select(DURATION + "_count")
