import plistlib

import pytest

from vitsearch_agent.cli.service import launchd
from vitsearch_agent.cli.service.options import ServiceOptions
from vitsearch_agent.errors import InvalidRequest

OPTIONS = ServiceOptions(port=9000, token_file="/Users/ada/my <token>")


def test_the_property_list_has_the_keys_of_launchd():
    content = plistlib.loads(launchd.property_list(["/usr/bin/python3", "/a b.pyz"], OPTIONS, "/st").encode())
    assert content["ProgramArguments"][:5] == ["/usr/bin/python3", "/a b.pyz", "serve", "--host", "127.0.0.1"]
    assert content["ProgramArguments"][-1] == "/Users/ada/my <token>"
    assert content["RunAtLoad"] is True
    assert content["KeepAlive"] is True
    assert content["ProcessType"] == "Interactive"
    assert content["Umask"] == 0o077
    assert content["StandardErrorPath"] == "/st/agent.log"


def test_the_property_list_contains_its_options():
    assert launchd.parse_options(launchd.property_list(["python3"], OPTIONS, "/st"), "x.plist") == OPTIONS


@pytest.mark.parametrize("body", ["", "<plist>", "<plist><dict/></plist>", "<plist><array/></plist>"])
def test_a_file_with_another_author_is_refused(body):
    with pytest.raises(InvalidRequest, match="x.plist was not written by"):
        launchd.parse_options(body, "x.plist")
