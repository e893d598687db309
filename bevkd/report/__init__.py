"""Tables, figures, claims ledger, HTML report and overlays, from finished runs.

Heavy modules (matplotlib, torch models) are imported by the functions that need them.
"""

from __future__ import annotations

from bevkd.report.make import make_figure, make_part, make_preview, make_report, make_table, refresh_page, results_dir

__all__ = ["make_figure", "make_part", "make_preview", "make_report", "make_table", "refresh_page", "results_dir"]
