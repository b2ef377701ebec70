"""What a run tells programs and people."""

import io

import msgspec
import pytest
from rich.console import Console

from moorage_nodes.gc.age import Reading
from moorage_nodes.gc.command import build_table, main
from moorage_nodes.gc.report import ABORTED, CAPPED, COMPLETE, INCOMPLETE, Report, RunMetrics

NOW = Reading(wall=1_700_000_000_000, uptime=1, boot="b")


def test_exit_codes_tell_the_outcomes_apart():
    codes = [
        Report(server_key="k", outcome=each).exit_code() for each in (COMPLETE, CAPPED, INCOMPLETE, ABORTED)
    ]
    assert codes == [0, 4, 1, 1]


def test_the_table_has_what_the_json_has():
    report = Report(server_key="k", outcome=CAPPED, removed=12_345, skipped={"ns": "broken"})
    out = io.StringIO()
    Console(file=out, width=120).print(build_table(report))
    said = out.getvalue()
    assert "12,345" in said
    assert "broken" in said
    fields = msgspec.json.decode(report.as_json())
    for name in (*fields["scanned"], *fields["kept"], *fields["let_go"]):
        assert name.replace("_", " ") in said


def test_metrics_add_up_over_runs_and_leave_dry_ones_out():
    metrics = RunMetrics()
    for dry_run, outcome in ((False, COMPLETE), (True, COMPLETE), (False, ABORTED)):
        metrics.observe(
            Report(server_key="k", dry_run=dry_run, outcome=outcome, removed=2, freed_bytes=10), NOW
        )
    text = metrics.render().decode()
    assert 'moorage_gc_runs_total{outcome="complete"} 2.0' in text
    assert 'moorage_gc_done_total{what="removed"} 4.0' in text
    assert 'moorage_gc_done_total{what="freed_bytes"} 20.0' in text
    assert "moorage_gc_last_complete_timestamp_seconds 1.7e+09" in text


def test_wrong_arguments_end_with_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--nothing"])
    assert ended.value.code == 2
    assert main(["--settings", str(tmp_path / "absent.json")]) == 2
    (tmp_path / "bad.json").write_text("{")
    assert main(["--settings", str(tmp_path / "bad.json")]) == 2
    assert "settings" in capsys.readouterr().err
