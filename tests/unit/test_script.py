"""script.py: the summary, and how far a run is."""

import json

from siamese import flags, script


def test_summary_as_line_and_as_json(tmp_path, capsys):
    args = flags.parser('About.\n\nExamples:\n    x\n')
    flags.add_output_flags(args)
    for path in (str(tmp_path / 'summary'), '-'):
        script.report(args.parse_args(['--json', path]), '{n} done', {'n': 3})
    assert json.loads((tmp_path / 'summary').read_text()) == {'n': 3}
    assert capsys.readouterr().out == '3 done\n{"n": 3}\n'


def test_tally():
    assert script.tally(3, 10) == '3 of 10' and script.tally(3, None) == '3'


def test_a_summary_of_two_lines_has_two_whatever_they_quote(capsys):
    args = flags.parser('About.\n\nExamples:\n    x\n')
    flags.add_output_flags(args)
    script.report(args.parse_args([]), 'a {n}\nb {n[1]}', {'n': '\n\x1b'})
    assert capsys.readouterr().out == 'a \\n\\x1b\nb \\x1b\n'
