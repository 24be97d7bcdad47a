"""What the documents show: commands and their output."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

from siamese import ROOT


def normal(text):
    """Return text with numbers, hashes, times and runs of blanks made alike."""
    text = re.sub(r'\b[0-9a-f]{16}…', 'HASH', text)
    text = re.sub(r'broker\.py@\S+', 'broker.py@HOST', text)
    text = re.sub(r'-[0-9a-f]{8}-', '-RUN-', text)
    text = text.replace(
        ', overdue', ''
    )  # what comes to the head of its queue just before its time is over
    text = re.sub(r'(127\.0\.0\.\d:\d+)/[^\s,;)]+', r'\1/VHOST', text)
    lines = [
        re.sub(r' +', ' ', re.sub(r'\d[\d,.:]*', 'N', line)).strip()
        for line in text.strip().splitlines()
    ]
    # How many lines a second there are depends on the machine.
    return [line for line in lines if not re.match('N s (published|delivered) ', line)]


def sessions(text):
    """Yield (command, output) of each '$ ' line in a text.

    The command goes on in '> ' lines; the output is the lines below.
    """
    for block in re.split(r'^\$ ', text, flags=re.MULTILINE)[1:]:
        command, _, output = block.partition('\n')
        while output.startswith('> '):
            more, _, output = output[2:].partition('\n')
            command += f'\n{more}'
        yield command, output


def environment(**more):
    venv_first = f'{os.path.dirname(sys.executable)}{os.pathsep}{os.environ["PATH"]}'
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(('MAKE', 'MFLAGS', 'BROKER'))
    }
    return {**ours, 'PATH': venv_first, 'PYTHONUTF8': '1', **more}


def steps_of(path):
    """Return [(command, output)] of the console blocks of a document."""
    blocks = re.findall(r'^( *)```console\n(.*?)^\1```', path.read_text(), re.MULTILINE | re.DOTALL)
    return list(sessions(''.join(textwrap.dedent(block) for _, block in blocks)))


def answer_of(command):
    """Return the output that answers.md shows of a command."""
    return dict(steps_of(ROOT / 'docs/answers.md'))[command]


def files_in(folder):
    """Return the names of all files in a folder, but for what Python compiles."""
    found = {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}
    return {name for name in found if '__pycache__' not in name}


def clone_into(folder):
    """Copy what git knows into a folder, as a clean clone has it; return the folder."""
    command = ['git', 'ls-files', '-co', '--exclude-standard']
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding='utf-8')
    for name in listed.stdout.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder
