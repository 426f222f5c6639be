"""HTML pages about runs, evaluations, comparisons and annotation: each one file that opens from disk, alone."""

from heteroseg.report.audit import write_audit
from heteroseg.report.comparison import write_comparison
from heteroseg.report.examples import Example, collect_examples
from heteroseg.report.page import Contents, write_report
from heteroseg.report.run import evaluation_contents, report_run

__all__ = [
    "Contents",
    "Example",
    "collect_examples",
    "evaluation_contents",
    "report_run",
    "write_audit",
    "write_comparison",
    "write_report",
]
