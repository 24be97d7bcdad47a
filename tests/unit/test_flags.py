"""flags.py: each script refuses bad flags with one line, which tells no password."""

import importlib
import sys

import pytest
from support.scripts import CLIENTS

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
