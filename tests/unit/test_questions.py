"""Everyday questions, each answered by one page: the table is for readers, the tests for us."""

import re

import pytest
from support.documents import steps_of

from siamese import ROOT

# question, page, heading under which the answer is
QUESTIONS = [
    ('Does a restart of my broker lose messages?', 'how-to/prove-a-restart-loses-nothing.md', ''),
    ('How many persistent messages of 1 kB a second?', 'how-to/measure-persistent-messages.md', ''),
    ('Which of two brokers should I take?', 'how-to/compare-two-brokers.md', ''),
    ('Who did not read their messages yesterday?', 'how-to/find-unread-messages.md', ''),
    ('How do I let a colleague look, and do nothing?', 'how-to/give-read-only-access.md', ''),
    ('How do I use our own certificate authority?', 'how-to/use-tls.md', ''),
    ('Is it safe on production, how do I remove it?', 'how-to/run-it-on-production.md', ''),
    ('How do I run it in CI?', 'how-to/run-it-in-ci.md', 'GitLab'),
    ('What happens when a node of my cluster dies?', 'how-to/break-a-cluster.md', ''),
    ('Can people log in with SAML?', 'how-to/log-in-with-saml.md', ''),
    ('How do I watch ten brokers?', 'how-to/watch-many-brokers.md', ''),
    ('The verdict says invalid: is it the broker?', 'how-to/when-a-verdict-says-invalid.md', ''),
    ('What does exit status 3 mean?', 'reference/exit-status.md', ''),
    ('What does in doubt mean?', 'reference/glossary.md', ''),
    ('Which flags has perf_producer.py?', 'reference/flags.md', 'perf_producer.py'),
    ('What is in the message of scenario 1?', 'explanation/blocks.md', 'The message'),
    ('How do I send dead letters back?', 'explanation/monitor.md', 'Requeueing'),
    ('How do I get a mail when nobody reads?', 'explanation/alerts.md', 'The mail'),
    ('Do urgent messages overtake others?', 'explanation/acknowledge.md', 'Priority'),
    ('One broker for inside and outside, or two?', 'explanation/one-broker-or-two.md', ''),
    ('How do I get the figures into Grafana?', 'explanation/monitor.md', 'Prometheus and Grafana'),
    (
        'Which permissions do the scripts need?',
        'explanation/access.md',
        'The scripts as these roles',
    ),
    ('What does this log line mean?', 'reference/log-lines.md', ''),
    ('Where do I put the password?', 'reference/environment.md', ''),
    ('Can a chat be told?', 'explanation/alerts.md', 'The webhook'),
    ('What happens when my broker has no more memory?', 'explanation/availability.md', ''),
    ('What is in a ledger?', 'reference/audit.md', ''),
    ('Are the fields of --json stable?', 'reference/json.md', ''),
    ('Was my broker tried?', 'explanation/compare.md', 'Brokers that were tried'),
    ('How much disk does the history take?', 'explanation/monitor.md', 'What it costs'),
]
EVERYDAY = 20


def test_there_are_twenty():
    assert len({question for question, *_ in QUESTIONS}) >= EVERYDAY


@pytest.mark.parametrize('question, page, heading', QUESTIONS)
def test_one_page_answers_it(question, page, heading):
    path = ROOT / 'docs' / page
    text = path.read_text()
    headings = re.findall(r'^##+ (.*)', text, re.MULTILINE)
    assert not heading or heading in headings
    assert page.startswith('reference/') or '```' in text or '    ' in text


@pytest.mark.parametrize('page', sorted({page for _, page, _ in QUESTIONS if 'how-to' in page}))
def test_it_shows_commands_that_the_tests_run(page):
    """tests/broker/test_docs.py runs the console blocks of every page, and compares the output."""
    assert steps_of(ROOT / 'docs' / page)
