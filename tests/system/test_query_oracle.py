# SPDX-License-Identifier: Apache-2.0
"""Our answers to PromQL queries are those of a real Prometheus on the same samples.

Random counters with resets, gauges, classic histograms and odd values, with gaps and with irregular and exactly regular
times, become one OpenMetrics file. promtool makes Prometheus' blocks of it, tests/unit/query_tool a database of ours.
"""
import json
import math
import os
import random
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request

import pytest

import netsonde
from netlab import die_with_parent, wait_for
from netsonde import PATIENCE

QUERY_TOOL = os.environ.get("NETSONDE_QUERY_TOOL",
                            os.path.join(os.path.dirname(netsonde.BINARY), "tests", "unit", "query_tool"))
SEED = 20240229
T0 = 1_700_000_000_000  # ms
LENGTH = 1200_000
INTERVAL = 5_000
LOOKBACK_S = 15  # QUERY_LOOKBACK_MS

EXPRESSIONS = [
    "g", 'g{peer="a"}', 'g{peer!="a"}', 'g{peer=~"a|b"}', 'g{peer!~"a|b", job="one"}', '{__name__=~"g|odd"}',
    'g{none=""}', "odd", "-g", "rate(c_total[30s])", "rate(c_total[12s])", "rate(c_total[1m])",
    "increase(c_total[5m])", "increase(c_total[10s])", "rate(c_total[5s])", "rate(c_total[1h])", "rate(g[1m])",
    "rate(odd[30s])", 'increase({__name__="c_total", peer=~"[ab]"}[1m30s])', "sum(rate(c_total[30s]))",
    "sum by (peer) (rate(c_total[30s]))", "sum(rate(c_total[30s])) by (job, none)", "sum without (peer) (g)",
    "avg by (job) (g)", "min by (peer) (g)", "max(g)", "count by (job) (g)", "avg(odd)", "min(odd)", "max(odd)",
    'sum by (__name__) ({job="one", peer="a", le=""})', "count(rate(c_total[1m])) by ()", "topk(2, g)",
    "bottomk(3, g)", "topk by (job) (1, g)", "topk(0, g)", "sum(topk(2, rate(c_total[30s])))",
    "rate(c_total[30s]) + rate(d_total[30s])", "rate(c_total[30s]) / rate(d_total[1m])", "g - c_total", "g * 2 + 1",
    "1 / g", "2 * -g", "-(1 + 2) * 3 - 4 / 8", "1e3 * g / 0", "g / g - g", "sum by (job) (g) / count by (job) (g)",
    "100 * sum by (peer) (rate(d_total[1m])) / sum by (peer) (rate(c_total[1m]))",
    "histogram_quantile(0.5, h_seconds_bucket)", "histogram_quantile(0.99, rate(h_seconds_bucket[30s]))",
    "histogram_quantile(0.9, sum by (le) (rate(h_seconds_bucket[1m])))",
    "histogram_quantile(0.5, sum by (le, job) (increase(h_seconds_bucket[2m])))",
    "histogram_quantile(1, rate(h_seconds_bucket[30s]))", "histogram_quantile(0, rate(h_seconds_bucket[30s]))",
    "histogram_quantile(-1, h_seconds_bucket)", "histogram_quantile(2, h_seconds_bucket)",
    "histogram_quantile(0.5, g)", "rate(h_seconds_sum[1m]) / rate(h_seconds_count[1m])", "nothing", "sum(nothing)",
    "SUM(g)", "0x10 + NaN", "Inf",
]
GOOD = [
    "sum by (a,) (g)", "g{a='b',}", "rate(g [ 5m ])", 'g{a="\\x41\\u00e9\\101"}', "by", "sum", "sum by(by)(avg)",
    "+-+g", "rate(g[1y2w3d4h5m6s7ms])", "g{a=`\\q`}", ":a:b", "{job='x', a!='b'}", "g{a=~'x.*|y'} # why not", ".5e-3",
    "0x1F",
]
BAD = [
    "rate(g)", "rate(g[5m]", "sum(1)", "rate(1)", "{}", '{a=~".*"}', "g{a=b}", 'g{a="b"', "1 +", "topk(g)",
    "topk(g, g)", "sum(g, g)", 'x{__name__="y"}', "g[0s]", "rate(g[5])", "rate(g[1m1h])", "rate((g)[5m])",
    "rat(g[5m])", "sum by g (g)", '"a" + 1', 'g{a="\\q"}', "5m", "", "g{:a='b'}", "g{,}", "sum by (,) (g)", "g g",
    "g[5m] + 1", "-g[5m]", "sum(g[5m])", "1 2", "g{a='b' c='d'}", "g{a='(' , b=~'('}", "()", "g)",
]
# start, end, step in ms: irregular steps; steps that meet the regular samples exactly; many; one.
RANGES = [(T0 - 20_000, T0 + LENGTH + 30_000, 7_300), (T0, T0 + LENGTH, 15_000), (T0 + 60_001, T0 + 160_000, 333),
          (T0 + 300_000, T0 + 300_000, 1_000), (T0 + 612_345, T0 + 612_345, 1_000)]


def times(rng, regular):
    """Sample times: exact multiples of the interval, or shaken; with gaps shorter and longer than the lookback."""
    t = T0
    while t <= T0 + LENGTH:
        yield t if regular else t + rng.randrange(-1500, 1500)
        t += INTERVAL * rng.choice([1] * 40 + [2, 3, 4, 5, 30])


def counter(rng, points, scale):
    value = rng.choice([0, 0, 3, 1e6])
    for t in points:
        value += rng.choice([0, rng.random() * scale, rng.randrange(0, 50)])
        if rng.random() < 0.04:
            value = rng.choice([0, rng.random() * scale])
        yield t, value


def sample(out, name, labels, t, value):
    text = ",".join(f'{k}="{v}"' for k, v in labels.items())
    number = "NaN" if math.isnan(value) else f"{value:+}".title() if math.isinf(value) else repr(value)
    out.append(f"{name}{{{text}}} {number} {t // 1000}.{t % 1000:03d}")


def histogram(rng, out, labels, points):
    bounds = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, math.inf]
    counts, total = [0] * len(bounds), 0.0
    for t in points:
        if rng.random() < 0.03:
            counts, total = [0] * len(bounds), 0.0
        for _ in range(rng.randrange(0, 30)):
            value = rng.lognormvariate(-4, 2)
            total += value
            counts = [n + (value <= bound) for n, bound in zip(counts, bounds)]
        for bound, n in zip(bounds, counts):
            sample(out, "h_seconds_bucket", {**labels, "le": "+Inf" if bound == math.inf else repr(bound)}, t, n)
        sample(out, "h_seconds_count", labels, t, counts[-1])
        sample(out, "h_seconds_sum", labels, t, total)


def metrics(rng):
    out = []
    keys = [{"job": job, "peer": peer} for job in ("one", "two") for peer in "abcd"]
    for name, chosen in (("c", keys), ("d", keys[:6])):
        out.append(f"# TYPE {name} counter")
        for i, labels in enumerate(chosen):
            for t, value in counter(rng, list(times(rng, i % 2)), 10 ** rng.randrange(0, 6)):
                sample(out, f"{name}_total", labels, t, value)
    out.append("# TYPE g gauge")
    for i, labels in enumerate(keys):
        for t in times(rng, i % 2):
            sample(out, "g", labels, t, rng.gauss(0, 100))
    out.append("# TYPE odd gauge")
    for labels in keys[:3]:
        for t in times(rng, False):
            sample(out, "odd", labels, t, rng.choice([math.nan, math.inf, 0.0, rng.random(), rng.random(), 1e300]))
    out += ["# TYPE h_seconds histogram", "# UNIT h_seconds seconds"]
    for i, labels in enumerate(keys[:5]):
        histogram(rng, out, labels, list(times(rng, i % 2)))
    return "\n".join([*out, "# EOF", ""])


class Prometheus:
    def __init__(self, directory, metrics_path):
        data = os.path.join(directory, "data")
        config = os.path.join(directory, "prometheus.yml")
        subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", metrics_path, data], check=True,
                       timeout=60, stdout=subprocess.DEVNULL)
        with open(config, "w", encoding="ascii") as file:
            file.write("global: {}\n")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = os.path.join(directory, "prometheus.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}",
                 "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{self.port}",
                 f"--query.lookback-delta={LOOKBACK_S}s", "--log.level=warn"],
                cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            wait_for(self._ready, 30 * PATIENCE, "prometheus ready")
        except BaseException:
            self.stop()
            raise

    def _ready(self):
        assert self.process.poll() is None, open(self.log, encoding="utf-8").read()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()

    def query(self, expression, start, end, step):
        """{labels: {t_ms: value}}"""
        form = urllib.parse.urlencode({"query": expression, "start": start / 1000, "end": end / 1000,
                                       "step": step / 1000})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query_range?{form}", timeout=60) as answer:
            result = json.load(answer)["data"]["result"]
        return {tuple(sorted(row["metric"].items())): {round(t * 1000): float(v) for t, v in row["values"]}
                for row in result}


def ours(metrics_path, database, queries):
    lines = "".join(f"{start} {end} {step} {expression}\n" for expression, (start, end, step) in queries)
    run = subprocess.run([QUERY_TOOL, metrics_path, database], input=lines, text=True, capture_output=True, timeout=100,
                         check=False)
    assert run.returncode == 0, run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(queries)
    return answers


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=0)


def test_answers_are_prometheus_answers(tmp_path):
    for program in ("prometheus", "promtool"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    print("seed", SEED)
    metrics_path = str(tmp_path / "metrics.txt")
    with open(metrics_path, "w", encoding="ascii") as file:
        file.write(metrics(random.Random(SEED)))
    queries = [(expression, range_) for expression in EXPRESSIONS for range_ in RANGES]
    answers = ours(metrics_path, str(tmp_path / "t.db"), queries)
    prometheus = Prometheus(str(tmp_path), metrics_path)
    compared = empty = 0
    try:
        for (expression, range_), answer in zip(queries, answers):
            expected = prometheus.query(expression, *range_)
            where = f"{expression} at {range_}"
            assert "series" in answer, f"{where}: {answer}"
            got = {tuple(sorted(s["labels"].items())): {t: float(v) for t, v in s["values"]}
                   for s in answer["series"]}
            assert got.keys() == expected.keys(), where
            order = [sorted(s["labels"].items()) for s in answer["series"]]
            assert order == sorted(order), f"{where}: order of series"
            for labels, points in expected.items():
                assert got[labels].keys() == points.keys(), f"{where}: {labels}"
                for t, value in points.items():
                    assert same(got[labels][t], value), \
                        f"{where}: {labels} at {t}: {got[labels][t]!r}, Prometheus has {value!r}"
                    compared += 1
            empty += not expected
    finally:
        prometheus.stop()
    print(compared, "values compared;", empty, "of", len(queries), "answers empty")
    assert compared > 50_000
    assert empty < len(queries) / 8


def test_errors_are_errors_there_too(tmp_path):
    """What we refuse as not PromQL, promtool refuses too; what we accept, it accepts."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    metrics_path = str(tmp_path / "empty.txt")
    with open(metrics_path, "w", encoding="ascii") as file:
        file.write("# EOF\n")
    for texts, accepted in ((EXPRESSIONS + GOOD, True), (BAD, False)):
        answers = ours(metrics_path, str(tmp_path / f"{accepted}.db"), [(text, (0, 0, 1)) for text in texts])
        for text, answer in zip(texts, answers):
            assert ("series" in answer) == accepted, f"{text}: {answer}"
            rules = {"groups": [{"name": "t", "rules": [{"record": "r", "expr": text}]}]}
            path = str(tmp_path / "rules.yml")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(rules, file)
            check = subprocess.run(["promtool", "check", "rules", "--lint=none", path], capture_output=True, timeout=60,
                                   check=False)
            assert (check.returncode == 0) == accepted, f"{text}: promtool says {check.stdout!r} {check.stderr!r}"
