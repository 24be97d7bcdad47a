"""The version: one place says it, every script shows it, and the change log knows it."""

import re

from siamese import ROOT, VERSION


def test_the_project_and_the_change_log_have_the_same_one():
    assert f'\nversion = "{VERSION}"\n' in (ROOT / 'pyproject.toml').read_text()
    releases = re.findall(r'^## ([\d.]+)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert releases[0] == VERSION
