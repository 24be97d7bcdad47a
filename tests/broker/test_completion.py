"""Completion in a real bash, with argcomplete, as docs/answers.md says."""

import os
import subprocess
import sys

from support.documents import environment
from support.processes import TEST_TIMEOUT_S
from support.scripts import SCRIPTS

from siamese import ROOT

# What bash does when the tab key is pressed, for each line of its arguments.
PRESS_TAB = """
eval "$(register-python-argcomplete *.py)"
for line; do
    COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9 words=($line)
    COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1)) COMPREPLY=()
    function=$(complete -p "${words[0]##*/}" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    $function "${words[0]}" "${words[COMP_CWORD]}" "${words[COMP_CWORD - 1]}"
    echo "${COMPREPLY[@]}"
done
"""


def completed(*lines):
    """Return what bash offers for each line, as a list of sets."""
    done = subprocess.run(
        ['bash', '-c', PRESS_TAB, 'bash', *lines],
        cwd=ROOT,
        env=environment(),
        encoding='utf-8',
        capture_output=True,
        check=True,
        timeout=TEST_TIMEOUT_S,
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_flags_of_every_script_are_completed():
    offers = completed(*[f'./{name} --h' for name in SCRIPTS])
    assert len(offers) == len(SCRIPTS)
    for name, offered in zip(SCRIPTS, offers):
        assert '--help' in offered, name


def test_a_flag_is_completed_to_its_end_and_a_choice_offered():
    offers = completed(
        './producer.py --le',
        './producer.py --queue-type q',
        './broker.py --nodes 3 --man',
    )
    assert offers == [{'--ledger'}, {'quorum'}, {'--management'}]


def test_it_costs_nothing_unless_the_shell_asks():
    for name in 'producer.py', 'broker.py':
        command = [sys.executable, '-X', 'importtime', name, '--help']
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, check=True, env=dict(os.environ)
        )
        assert b'argparse' in done.stderr and b'argcomplete' not in done.stderr
