# SPDX-License-Identifier: Apache-2.0
"""Documentation that the program writes itself must not lag behind it."""
import os
import subprocess

import netsonde

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_metrics_table_is_the_registry():
    table = subprocess.run([netsonde.BINARY, "doctor", "--print-metrics"], capture_output=True, text=True, check=True).stdout
    lines = table.splitlines()
    assert len(lines) > 20
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
        documented = file.read().splitlines()
    missing = [line for line in lines if line not in documented]
    assert not missing, "docs/metrics.md lags behind netsonde doctor --print-metrics"
    extra = [line for line in documented if line.startswith("| `netsonde_") and line not in lines]
    assert not extra, "docs/metrics.md has metrics that there are none of"
