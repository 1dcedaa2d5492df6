# SPDX-License-Identifier: Apache-2.0
"""Documentation that the program writes itself must not lag behind it."""
import os
import subprocess

import netsonde

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_metrics_table_is_the_registry():
    table = subprocess.run([netsonde.BINARY, "doctor", "--print-metrics"], capture_output=True, text=True, check=True).stdout
    assert table.count("\n") > 20
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
        assert table in file.read(), "docs/metrics.md: replace the table by what netsonde doctor --print-metrics prints"

