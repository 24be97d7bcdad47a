"""What the documents show: commands and their output."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

from siamese import ROOT

HOW_TO = sorted((ROOT / 'docs/how-to').glob('*.md'))

# Where commands may write: examples, make, and token_server.py its keys.
WRITTEN = ('runs/', '.venv/', 'siamese-keys/')


def normal(text):
    """Return text with numbers, hashes, times and runs of blanks made alike."""
    text = re.sub(r'\b[0-9a-f]{16}…', 'HASH', text)
    text = re.sub(r'broker\.py@\S+', 'broker.py@HOST', text)
    text = re.sub(r'-[0-9a-f]{8}-', '-RUN-', text)
    text = text.replace(
        ', overdue', ''
    )  # what comes to the head of its queue just before its time is over
    # Of few events there is a rate only if they took long.
    text = re.sub(r', [\d,.]+( blocks| attempts)?/s; stopped', '; stopped', text)
    text = re.sub(r'^[\d,.]+/s; latency', 'latency', text, flags=re.MULTILINE)
    # What the broker has not counted yet is U: a quorum queue of RabbitMQ 4 takes a while.
    text = text.replace('oldest=U', 'oldest=0s').replace('=U ', '=0 ')
    # Which right it was is said by RabbitMQ 4.
    text = re.sub(r'ACCESS_REFUSED - \w+ access', 'ACCESS_REFUSED - access', text)
    text = re.sub(r'(127\.0\.0\.\d:\d+)/[^\s,;)]+', r'\1/VHOST', text)
    lines = [
        re.sub(r' +', ' ', re.sub(r'\d[\d,.:]*', 'N', line)).strip()
        for line in text.strip().splitlines()
    ]
    # It may be one block or two when something happens.
    lines = [re.sub(r'\bN (\w+)s\b', r'N \1', line) for line in lines]
    # How many lines a second there are depends on the machine.
    is_row = re.compile('N s N/s|time (published|delivered)')
    return [line for line in lines if not is_row.match(line)]


def sessions(text):
    """Yield (command, output) of each '$ ' line in a text.

    The command goes on after a backslash, and in '> ' lines; the output is the lines below.
    """
    for block in re.split(r'^\$ ', text, flags=re.MULTILINE)[1:]:
        command, _, output = block.partition('\n')
        while command.endswith('\\'):
            more, _, output = output.partition('\n')
            command += f'\n{more}'
        while output.startswith('> '):
            more, _, output = output[2:].partition('\n')
            command += f'\n{more}'
        yield command, output


def environment(**more):
    venv_first = f'{os.path.dirname(sys.executable)}{os.pathsep}{os.environ["PATH"]}'
    ours = {name: value for name, value in os.environ.items() if name != 'BROKER_PRODUCT'}
    return {**ours, 'PATH': venv_first, 'PYTHONUTF8': '1', **more}


def steps_of(path):
    """Return [(command, output)] of the console blocks of a document."""
    blocks = re.findall(r'^( *)```console\n(.*?)^\1```', path.read_text(), re.MULTILINE | re.DOTALL)
    return list(sessions(''.join(textwrap.dedent(block) for _, block in blocks)))


def pages():
    """Return the paths of all pages in docs/, sorted."""
    return sorted(path for path in (ROOT / 'docs').glob('**/*.md') if '.mermaid' not in path.parts)


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


def in_one_shell(steps, folder, **more):
    """Run the commands of `steps` in one shell, as a person would.

    What they write goes into runs/. Return what each of them showed on stdout.
    """
    before = files_in(folder)
    shell = [
        'set -e',
        *(f'echo "=== {number}"\n{command}' for number, (command, _) in enumerate(steps)),
    ]
    done = subprocess.run(
        ['bash', '-c', '\n'.join(shell)],
        cwd=folder,
        env=environment(**more),
        encoding='utf-8',
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.split(r'^=== \d+\n', done.stdout, flags=re.MULTILINE)[1:]
    assert len(shown) == len(steps)
    for (command, expected), output in zip(steps, shown):
        if expected.strip():
            assert normal(output) == normal(expected), f'{command}\n{output}'
    written = files_in(folder) - before
    assert {name for name in written if not name.startswith(WRITTEN)} == set()
    return shown
