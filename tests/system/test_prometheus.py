# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes the agent, with and without native histograms, and promtool has nothing to say."""
import json
import os
import shutil
import subprocess
import urllib.parse

import pytest

import netsonde
import traffic
from netlab import wait_for
from netsonde import PATIENCE

CONFIG = """
networks:
  far: ["{v4}/32", "{v6}/128"]
collect: {{tick: 100ms}}
"""
PROMETHEUS = ("127.0.0.1", 9090)  # in a network namespace of its own, where every port is free


def need(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


class Prometheus:
    """Debian's prometheus with a directory of its own, as a plain process in a host."""

    def __init__(self, programs, host, target, arguments):
        directory = os.path.join(programs.directory, "prometheus")
        os.makedirs(directory)
        config = os.path.join(directory, "prometheus.yml")
        with open(config, "w", encoding="utf-8") as file:
            file.write("global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
                       "scrape_configs:\n- job_name: netsonde\n  static_configs:\n"
                       f"  - targets: ['{target[0]}:{target[1]}']\n")
        self.host = host
        self.program = programs.start(host, [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address={PROMETHEUS[0]}:{PROMETHEUS[1]}", "--log.level=warn", *arguments], "prometheus")
        wait_for(self._ready, 30 * PATIENCE, "prometheus ready")

    def _ready(self):
        assert self.program.process.poll() is None, self.program.err
        try:
            return netsonde.get(self.host, PROMETHEUS, "/-/ready")[0] == 200
        except OSError:
            return False

    def query(self, text):
        """[(labels, value)] of an instant query."""
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": text})
        status, _, body = netsonde.get(self.host, PROMETHEUS, path)
        answer = json.loads(body)
        assert status == 200 and answer["status"] == "success", answer
        return [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"] if "value" in row]

    def last_error(self):
        body = netsonde.get(self.host, PROMETHEUS, "/api/v1/targets")[2]
        return [target["lastError"] for target in json.loads(body)["data"]["activeTargets"]]


def promtool_check(text):
    result = subprocess.run(["promtool", "check", "metrics"], input=text, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, ""), result.stdout + result.stderr


@pytest.fixture
def net(lab):
    near, far = lab.host("near"), lab.host("far")
    near_end, far_end = lab.link(near, far)
    return traffic.Side(near_end), traffic.Side(far_end, "far")


@pytest.mark.parametrize("native", [False, True], ids=["classic", "native"])
def test_prometheus_scrapes_the_agent(net, start_agent, programs, native):
    need("prometheus")
    near, far = net
    agent = start_agent(near.host, CONFIG.format(v4=far.end.v4, v6=far.end.v6))
    prometheus = Prometheus(programs, near.host, agent.address,
                            ["--enable-feature=native-histograms"] if native else [])
    books = traffic.Books()
    with traffic.listen(far, 4) as listener:
        def connect():
            for _ in range(5):
                pair = traffic.Pair(books, near, far, 4, listener)
                pair.exchange(1000, 1000)
                pair.close()

        wait_for(lambda: prometheus.query('up{job="netsonde"} == 1'), 20 * PATIENCE, prometheus.last_error)
        name = "netsonde_tcp_handshake_duration_seconds"
        selector = '{peer="far",role="client"}'
        quantile = (f"histogram_quantile(0.5, sum(rate({name}{selector}[10s])))" if native else
                    f"histogram_quantile(0.5, sum by (le) (rate({name}_bucket{selector}[10s])))")

        def median():
            connect()
            return [value for _, value in prometheus.query(quantile) if value == value]

        (value,) = wait_for(median, 30 * PATIENCE, "a median handshake duration")
        # Over veth, in seconds; the slack is for a busy machine, not for another unit.
        assert 1e-6 < value < 0.5

    # Every connection arrived, in the counter and in the histogram, whichever way it was sent.
    expected = books.outcomes[("far", "client", "established")]
    count = f"histogram_count({name}{selector})" if native else f"{name}_count{selector}"
    for query in (f'netsonde_tcp_connections_total{{peer="far",role="client",outcome="established"}}', count):
        wait_for(lambda q=query: [v for _, v in prometheus.query(q)] == [expected], 20 * PATIENCE,
                 lambda q=query: f"{q} is {expected}: {prometheus.query(q)}")
    assert bool(prometheus.query(f"{name}_bucket{selector}")) != native
    assert prometheus.last_error() == [""]
    # No scrape was lost since the first good one.
    assert prometheus.query('min_over_time(up{job="netsonde"}[3s])')[0][1] == 1


def test_promtool_finds_nothing_in_the_metrics(net, start_agent, start_server):
    need("promtool")
    near, far = net
    agent = start_agent(near.host, CONFIG.format(v4=far.end.v4, v6=far.end.v6))
    books = traffic.Books()
    for family in (4, 6):
        with traffic.listen(far, family) as listener:
            pair = traffic.Pair(books, near, far, family, listener)
            pair.exchange(1000, 1000)
            pair.close()
        traffic.fail(books, near, far, family, traffic.free_port(far, family), 3, "refused")
    server = start_server(near.host, f"""
server:
  scrape:
    targets: [{{name: near, url: "http://{agent.address[0]}:{agent.address[1]}/metrics"}}]
""")
    metrics = agent.settle()
    assert metrics.sum("netsonde_tcp_connections_total", peer="far", outcome="refused") == 6
    promtool_check(metrics.text)
    promtool_check(server.metrics().text)


def test_each_format_is_served_under_its_own_type(net, start_agent):
    near, far = net
    agent = start_agent(near.host, CONFIG.format(v4=far.end.v4, v6=far.end.v6))
    for accept, content_type in (
            ("", "text/plain; version=0.0.4"),
            ("text/plain", "text/plain; version=0.0.4"),
            ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text; "),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
             "application/openmetrics-text;q=0.7,text/plain;q=0.5", "application/vnd.google.protobuf; ")):
        status, headers, body = agent.get("/metrics", {"Accept": accept} if accept else {})
        assert status == 200 and headers["Content-Type"].startswith(content_type), headers["Content-Type"]
        assert body.endswith(b"# EOF\n") == ("openmetrics" in content_type)
    status, headers, body = agent.get("/metrics", {"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip" and body[:2] == b"\x1f\x8b"
