"""flags.py: each script refuses bad flags with one line, which tells no password."""

import contextlib
import importlib
import re
import sys

import pytest
from support.scripts import CLIENTS, SCRIPTS

import broker
from siamese import flags as flags_module
from siamese.redacted import redacted

SCENARIO_1 = ['producer.py', 'validate.py']
BAD_FLAGS = [
    (['--count', '0'], 'argument --count: '),
    (['--count', 'many'], 'invalid whole number'),
    (['--count'], 'expected one'),
    (['--duration', 'nan'], 'argument --duration: '),
    (['--give-up-after', '-1'], 'argument --give-up-after: '),
    (['--nonsense'], 'unrecognized'),
    (['--queue', 'x' * 201], '1 to 200 printable'),
    (['--name', 'a\nb'], '1 to 200 printable'),
    (['--name', ''], '1 to 200'),
    (['--queue-type', 'fast'], 'invalid choice'),
    (['--ledger', '/none/x'], 'cannot write /none/x'),
    (['--json', '/'], 'cannot write /'),
    (['--url', 'http://h'], 'must begin with amqp'),
    (['--url', 'amqp://u:secret@h:x'], 'port'),
    (['--ulr', 'amqp://u:secret@h'], 'unrecognized'),
    (['amqp://u:sec@ret@h'], 'unrecognized'),
    (['--url', 'amqp://u:12/sec@h'], 'write a / in user or password as %2F'),
    (['--url', 'amqp://u:pass', 'sec', 'ret@h', '--fast=sec'], 'unrecognized arguments --fast;'),
    (['--queue-type', 'amqp://u:my sec@ret@h'], 'invalid choice'),
    (['--ledger', '-'], 'name of a file'),
    (['--min', '9', '--max', '5'], 'is below'),
    (['--difficulty', '65'], 'from 0 to 64'),
]
BAD_FLAGS_OF_ALL = [
    (['--count', '0'], 'argument --count: '),
    (['--nonsense'], 'unrecognized'),
    (['--name', 'a\nb'], 'printable'),
    (['--url', 'amqp://u:secret@h:x'], 'port'),
    (['--name', 'amqp://u:secret@h'], 'not a name; see --url'),
    (['amqp://u:secret@h'], ''),
    (['--ledger', '/none/x'], 'cannot write /none/x'),
]


@pytest.fixture
def refusal(monkeypatch, capsys):
    """A function that gives a script bad flags, and returns the line that it writes."""

    def refusal(name, *flags):
        monkeypatch.setattr(sys, 'argv', [name])
        module = importlib.import_module(name.removesuffix('.py'))
        with pytest.raises(SystemExit) as ended:
            module.parse_args(flags)
        out, err = capsys.readouterr()
        assert ended.value.code == 2
        assert out == ''
        assert err.count('\n') == 1
        assert f'see {name} --help' in err
        return err

    return refusal


@pytest.mark.parametrize('name', SCENARIO_1)
@pytest.mark.parametrize('flags, complaint', BAD_FLAGS)
def test_bad_flags_take_one_line(refusal, name, flags, complaint):
    line = refusal(name, *flags)
    assert complaint in line
    assert 'sec' not in line.replace('seconds', '')
    assert 'ret@' not in line


@pytest.mark.parametrize('command', CLIENTS)
@pytest.mark.parametrize('flags, complaint', BAD_FLAGS_OF_ALL)
def test_bad_flags_of_every_script_tell_no_password(refusal, command, flags, complaint):
    line = refusal(*command.split(), *flags)
    assert complaint in line
    assert 'secret' not in line


# ---- a URL where none is expected


def flags_without_url(name, monkeypatch):
    """Return the flags of a script that take a value, but no URL."""
    parsers = []

    def keep(parser, _argv):
        parsers.append(parser)
        raise SystemExit

    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(flags_module, 'parse', keep)
        importlib.import_module(name.removesuffix('.py')).parse_args([])
    return [
        action.option_strings[0]
        for action in parsers[0]._actions
        if action.option_strings and action.nargs != 0 and 'URL' not in str(action.metavar)
    ]


@pytest.mark.parametrize('name', [name for name in SCRIPTS if name != 'broker.py'])
def test_a_url_given_to_another_flag_or_argument_is_never_shown(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [name])
    module = importlib.import_module(name.removesuffix('.py'))
    tries = [[flag] for flag in flags_without_url(name, monkeypatch)]
    for url in (
        'amqp://u:S3cr3t@h',
        'amqp://u:S3cr3t',
        'https://u:S3cr3t@h:1/x',
        'amqp://:S3\ncr3t@h',
    ):
        for words in [[], *tries]:
            is_name = url.endswith('S3cr3t')
            if not words and (is_name or name == 'compare.py'):
                continue  # an argument that the script takes
            with pytest.raises(SystemExit) as ended:
                module.parse_args([*words, url])
            out, err = capsys.readouterr()
            assert ended.value.code == 2, (words, url)
            assert not {'S3', 'cr3t'} & set(re.findall('S3|cr3t', out + err)), (words, url, err)


def test_broker_py_shows_no_password_either(monkeypatch, capsys):
    for words in (
        ['--nodes', 'amqp://u:S3cr3t@h'],
        ['--oauth2', 'amqp://u:S3cr3t@h'],
        ['--url', 'amqp://u:S3cr3t@h'],
        ['--amqp://u:S3cr3t@h'],
    ):
        with pytest.raises(SystemExit) as ended:
            broker.parse_args(words)
        assert ended.value.code == 2
        assert 'S3cr3t' not in capsys.readouterr().err
    assert broker.main(['amqp://u:S3cr3t@h']) == 127
    assert capsys.readouterr().err.endswith('amqp://***@h: no such command\n')


@pytest.mark.parametrize(
    'text, shown',
    [
        ('amqp://u:p@h', 'amqp://***@h'),
        ('amqp://u:p@h and amqp://v:q@i', 'amqp://***@i'),
        ('a\namqp://u:p\nq@h', 'a\namqp://***@h'),
        ("invalid number: 'amqp://u:p'", "invalid number: 'amqp://***'"),
        ('must begin with amqp:// or amqps://', 'must begin with amqp:// or amqps://'),
        ('at http://localhost:15672/api', 'at http://localhost:15672/api'),
        ('at http://[::1]:15672/api', 'at http://[::1]:15672/api'),
    ],
)
def test_redacted(text, shown):
    assert redacted(text) == shown
