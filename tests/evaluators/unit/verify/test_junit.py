from xml.etree import ElementTree

from vitsearch_agent.verify.checks import FAILED, NOT_JUDGED, PASSED, Check
from vitsearch_agent.verify.junit import junit
from vitsearch_agent.verify.verify import Report


def test_each_check_is_a_test_case():
    checks = (
        Check("files", PASSED, "4 files"),
        Check("accuracy", FAILED, "too <low> & \x1b[31mred"),
        Check("load_ms", NOT_JUDGED, "no interval"),
    )
    suite = ElementTree.fromstring(junit(Report("tiny", checks)))
    assert suite.attrib == {"name": "tiny", "tests": "3", "failures": "1", "skipped": "1"}
    passed, failed, skipped = suite
    assert passed.find("system-out").text == "4 files"
    assert failed.find("failure").get("message") == "too <low> & \\x1b[31mred"
    assert skipped.find("skipped").get("message") == "no interval"
