"""Checks as JUnit XML, which CI systems show."""

from xml.etree import ElementTree

from vitsearch_agent.base.printable import printable
from vitsearch_agent.verify.checks import FAILED, NOT_JUDGED
from vitsearch_agent.verify.verify import Report


def junit(report: Report) -> bytes:
    """Return the checks of a report as one test suite: a check that is not judged is a skipped test."""
    outcomes = [check.outcome for check in report.checks]
    counts = {"tests": len(outcomes), "failures": outcomes.count(FAILED), "skipped": outcomes.count(NOT_JUDGED)}
    suite = ElementTree.Element(
        "testsuite", dict({key: str(count) for key, count in counts.items()}, name=printable(report.name))
    )
    for check in report.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=printable(report.name), name=printable(check.name))
        message = printable(check.message)
        if check.outcome == FAILED:
            ElementTree.SubElement(case, "failure", message=message)
        elif check.outcome == NOT_JUDGED:
            ElementTree.SubElement(case, "skipped", message=message)
        else:
            ElementTree.SubElement(case, "system-out").text = message
    return bytes(ElementTree.tostring(suite, encoding="utf-8"))
