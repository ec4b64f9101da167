"""The memory of `retrospan metrics` stays flat, however often it is scraped and however many runs come and go."""

import re
import sqlite3
import time
from pathlib import Path

import pytest
from scrapes import free_port, scrape

from retrospan_exporters import tables

from .support import wait_until
from .test_metrics_command import sidecar

SCRAPES = 10_000
RUN_EVERY = 10


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_scrapes_and_a_thousand_runs_leave_nothing_behind(tmp_path: Path) -> None:
    record, port = tmp_path / "telemetry.sqlite", free_port()
    connection = sqlite3.connect(record, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(tables.ddl())

    def come_and_go(number: int) -> None:
        run_id = f"RUN{number}"
        connection.execute("INSERT INTO run_info (run_id, started_at) VALUES (?, ?)", (run_id, time.time()))
        connection.executemany(
            "INSERT INTO http_events (run_id, ts, host, status, wire, breaker_state) VALUES (?, ?, ?, 200, 1, 'closed')",
            [(run_id, time.time(), f"h{number}-{host}.example") for host in range(20)],
        )
        connection.execute("INSERT INTO run_summary (run_id) VALUES (?)", (run_id,))
        connection.commit()

    def resident_kb() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    shown: set[str] = set()
    with sidecar(record, port, "--keep", "0", "--poll", "0.1") as process:
        for number in range(SCRAPES):
            if number % RUN_EVERY == 0:
                come_and_go(number)
            page = scrape(port)
            shown |= set(re.findall(r'http_429_ratio\{[^}]*run_id="(RUN\d+)"', page.text))
            if number == SCRAPES // 5:
                early = resident_kb()
        wait_until(lambda: scrape(port).status == 200 and "run_id" not in scrape(port).text, "all runs are gone")
        late = resident_kb()
        counted = sum(scrape(port).of("retrospan_http_requests_total").values())
    assert counted == 20 * SCRAPES // RUN_EVERY
    assert len(shown) > 20
    assert late - early < 4096, (early, late)
