"""The agent as one file: its sources, and nothing that differs between two builds."""

import io
import os
import zipfile

import vitsearch_agent
from vitsearch_agent.base.single_file import single_file


def test_equal_sources_make_equal_files():
    assert single_file() == single_file()


def test_the_file_has_every_source_of_the_package_in_order_and_no_time():
    package = os.path.dirname(vitsearch_agent.__file__)
    sources = {
        os.path.relpath(os.path.join(folder, name), os.path.dirname(package)).replace(os.sep, "/")
        for folder, _, names in os.walk(package)
        for name in names
        if name.endswith(".py")
    }
    with zipfile.ZipFile(io.BytesIO(single_file())) as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(2020, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None
    assert names == ["__main__.py", *sorted(names[1:])]
    assert set(names[1:]) == sources


def test_it_starts_as_a_script():
    assert single_file().startswith(b"#!/usr/bin/env python3\nPK")
