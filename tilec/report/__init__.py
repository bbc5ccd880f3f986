"""The schedule explorer: a compiled kernel, or a loop, as one document, and that as a page.

The document (`of_compiled`, `of_problem`) holds all that is shown, solved beforehand; its form is
`REPORT_SCHEMA`. `page` makes one HTML file of it that needs no network.
"""

from tilec.report.compare import differences
from tilec.report.data import Ask, of_compiled, of_problem
from tilec.report.page import page
from tilec.report.schema import REPORT_SCHEMA
from tilec.report.svg import gantt
from tilec.report.trace import trace

__all__ = ["REPORT_SCHEMA", "Ask", "differences", "gantt", "of_compiled", "of_problem", "page", "trace"]
