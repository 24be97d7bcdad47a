"""Completion in a real bash, with argcomplete, as docs/answers.md says."""

import os
import subprocess
import sys

import pytest
from support.documents import environment
from support.scripts import SCRIPTS

from siamese import ROOT

# What bash does when the tab key is pressed; the line is in $1.
PRESS_TAB = """
eval "$(register-python-argcomplete *.py)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 words=($1)
COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
function=$(complete -p "${words[0]##*/}" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function "${words[0]}" "${words[COMP_CWORD]}" "${words[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(line):
    done = subprocess.run(
        ['bash', '-c', PRESS_TAB, 'bash', line],
        cwd=ROOT,
        env=environment(),
        encoding='utf-8',
        capture_output=True,
        check=True,
        timeout=60,
    )
    return {word.strip() for word in done.stdout.splitlines()}


@pytest.mark.parametrize('name', SCRIPTS)
def test_flags_of_every_script_are_completed(name):
    assert '--help' in completed(f'./{name} --h')


def test_a_flag_is_completed_to_its_end_and_a_choice_offered():
    assert completed('./producer.py --le') == {'--ledger'}
    assert completed('./producer.py --queue-type q') == {'quorum'}
    assert completed('./broker.py --nodes 3 --man') == {'--management'}


def test_it_costs_nothing_unless_the_shell_asks():
    for name in 'producer.py', 'broker.py':
        command = [sys.executable, '-X', 'importtime', name, '--help']
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, check=True, env=dict(os.environ)
        )
        assert b'argparse' in done.stderr and b'argcomplete' not in done.stderr
