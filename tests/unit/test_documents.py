"""What the documents hold: answers, sections, links that lead somewhere. None of it is run."""

import ast
import re

import pytest
import reference
from support.documents import pages

from siamese import ROOT

# The headings of answers.md: the wiki's questions and parts, in its words, in its order.
QUESTIONS = """\
Purpose of the scripts/scenarios
Best practice?
How does the best practice deployment look like?
One broker accessible via VPN for pure internal use, and one for public / cloud?
Only one broker for internal and public / cloud, and which security mechanisms are there \
(authentication / authorization)?
The following test cases shall be possible to test
1 producer, n subscribers
n producers and 1 subscriber
m producers and n subscribers
Scenario 1 - Valid message exchange
Scenario 2 - Performance
Scenario 3 - Distribute single message to multiple consumers
Scenario 4 - Active message acknowledgement/rejection on the consumer side
How can the broker know the message is lost if neither an acknowledgement nor a reject is received?
Scenario 5 - RPC Example
Scenario 6 - Queue instance not available
What happens if the queue is not available?
What are the concepts/available options in regards to business continuity and (high) availability?
Start up stress test: broker was down, but during start up, producer continuously tries \
to send messages.
Shall the script keep trying to send messages or not?
Scenario 7 - Message producer/consumer not available
Which information is stored in the message queue if subscribers have not been able to \
pick up messages?
Can we report such situation automatically in a dashboard or via e-mail?
Simple approach: just run one producer, but no consumers.
Complex approach: run one producer and some (but not all) consumers.
More complex approach: run multiple producers and some (but not all) consumers.
Questions
User/Role and privilege concept
General introduction to the role - and user concept
Authentication/authorization shall be performed via claims based SAML 2.0
Prioritization and validity of messages (TTL)
Is it possible to send messages with higher priority in order to make sure it's delivered \
as fast as possible, in case \
there are already several messages in the queue?
Is setting TTL on individual messages possible in order specify how long a specific \
message is valid?
Is the message then automatically removed from the queue?
Acknowledgement (fire and forget vs. guaranteed delivery/processing)
Show how consumer can acknowledge or not acknowledge message delivery/processing.
Is the message queue able to show which consumer has fetched a message and if it has been \
acknowledged by this \
specific consumer?
Different states shall be available to show the specific state each consumer/producer \
has; Eg. Sends information, \
receives information, last connection interrupt, etc.
Dashboard
Comparison
Deployment of the test scripts
Computing resources
Requirements
Steps to deploy
Python virtualenv
Proxy
Python requirements
PDF version of this Wiki
"""


def test_every_question_of_the_wiki_has_an_answer_and_a_command():
    sections = re.split(
        r'^(##+) (.*)\n', (ROOT / 'docs/answers.md').read_text(), flags=re.MULTILINE
    )[1:]
    levels, titles, bodies = sections[0::3], sections[1::3], sections[2::3]
    assert titles == QUESTIONS.splitlines()
    for level, title, body, following in zip(levels, titles, bodies, [*levels[1:], '']):
        if len(following) <= len(level):  # it has no questions below it
            answer, _, command = body.partition('```console\n$ ')
            assert answer.strip() and command, title


@pytest.mark.parametrize(
    'page', ['blocks', 'perf', 'fanout', 'acknowledge', 'rpc', 'availability', 'monitor']
)
def test_each_scenario_has_a_page_with_diagram_commands_and_what_it_proves(page):
    text = (ROOT / 'docs/explanation' / f'{page}.md').read_text()
    assert '```mermaid\n' in text and '```console\n$ ' in text
    assert '\n## What it proves, and what it does not\n' in text


def test_links_in_the_documents_lead_somewhere():
    for path in [*ROOT.glob('*.md'), *pages()]:
        for name, heading in re.findall(r'\]\((?!https:)([^)#]*)#?([^)]*)\)', path.read_text()):
            target = (path.parent / name) if name else path
            assert target.exists(), f'{path.name}: {name}'
            titles = re.findall(r'^#+ (.*)', target.read_text(), re.MULTILINE) if heading else []
            anchors = {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}
            assert not heading or heading in anchors, f'{path.name}: {name}#{heading}'


def test_a_link_that_shows_a_path_leads_there():
    for path in [*ROOT.glob('*.md'), *pages()]:
        shown = re.findall(r'\[([\w/.-]+\.md)\]\((?!https:)([^)#]+)', path.read_text())
        wrong = [link for link in shown if not link[1].endswith(link[0].rpartition('/')[2])]
        assert wrong == [], path.name


def test_the_wiki_page_leads_to_each_answer_in_its_order():
    links = re.findall(r'^ *- \[(.*)\]\(answers\.md#', (ROOT / 'docs/wiki.md').read_text(), re.M)
    assert links == QUESTIONS.splitlines()


def test_the_reference_of_the_flags_is_that_of_the_parsers():
    assert reference.PAGE.read_text() == reference.page(), 'make reference writes it anew'


def test_every_page_is_in_the_index():
    docs = ROOT / 'docs'
    index = (docs / 'index.md').read_text()
    links = re.findall(r'\]\(([^)#]+\.md)\)', index)
    known = {str(path.relative_to(docs)) for path in pages()} - {'index.md'}
    assert known == {link for link in links if '..' not in link}


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'docs/how-to').glob('*.md')), ids=lambda path: path.stem
)
def test_a_how_to_page_has_a_goal_a_few_commands_and_how_to_read_them(path):
    text = path.read_text()
    blocks = re.findall(r'```(?:console|sh)\n(.*?)```', text, re.DOTALL)
    commands = [line for line in ''.join(blocks).splitlines() if line.startswith(('$ ', './'))]
    assert 1 <= len(commands) <= 8
    assert '\n## How to read it\n' in text
    assert re.match(r'# [A-Z].*\n\n[\w`]', text)
    assert len(text.splitlines()) <= 130


# ---- how the pages read

LONGEST_LINE = 120  # columns, of prose
LONGEST_CODE = 100  # columns, of code that a person types
LONGEST_PAGE = 300  # lines
MAY_BE_LONG = {'flags.md', 'answers.md'}  # one is a reference; the other has one part a question
NOT_PROSE = ('|', '![', '#', '- [')  # tables, pictures, headings, lists of links
HEADLESS = re.compile(r'(What|Whoever|Who)\b[^.:?]* (is|are|was|were|gets|comes|has|must|can)\b')


def prose_of(text):
    """Yield the lines of a page that are neither code nor in a table, and no headings."""
    is_code = False
    for line in text.splitlines():
        if line.lstrip().startswith('```'):
            is_code = not is_code
        elif not (is_code or line.startswith('    ') or line.lstrip().startswith(NOT_PROSE)):
            yield line


@pytest.mark.parametrize('path', [ROOT / 'README.md', *pages()], ids=lambda path: path.name)
def test_lines_of_prose_fit_a_window(path):
    assert [
        line
        for line in prose_of(path.read_text())
        if len(line) > LONGEST_LINE and ' ' in line.strip()
    ] == []


@pytest.mark.parametrize('path', [ROOT / 'README.md', *pages()], ids=lambda path: path.name)
def test_a_page_has_an_end(path):
    if path.name not in MAY_BE_LONG:
        assert len(path.read_text().splitlines()) <= LONGEST_PAGE


def first_sentences(text):
    """Yield the headings of a page and the first sentence of each paragraph, without line ends."""
    text = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
    for paragraph in re.split(r'\n\s*\n', text):
        words = re.sub(r'^[-#*\d. ]+', '', ' '.join(paragraph.split()))
        if not words.startswith('|'):
            yield re.split(r'(?<=[.:?]) ', words)[0]


@pytest.mark.parametrize('path', [ROOT / 'README.md', *pages()], ids=lambda path: path.name)
def test_a_heading_or_paragraph_begins_with_its_subject(path):
    """Not with "What is ..." in place of a noun; a question may."""
    found = filter(HEADLESS.match, first_sentences(path.read_text()))
    assert [sentence for sentence in found if not sentence.endswith('?')] == []


def typed_in(text):
    """Yield the lines of a page that a person types, or copies into a file."""
    kind = ''
    for line in text.splitlines():
        if line.lstrip().startswith('```'):
            kind = '' if kind else line.strip(' `') or 'output'
        elif kind in ('sh', 'yaml', 'ini') or (kind == 'console' and line.startswith(('$ ', '> '))):
            yield line


@pytest.mark.parametrize('path', [ROOT / 'README.md', *pages()], ids=lambda path: path.name)
def test_what_a_person_types_fits_a_window(path):
    assert [line for line in typed_in(path.read_text()) if len(line) > LONGEST_CODE] == []


LOG_LINES = (ROOT / 'docs' / 'reference' / 'log-lines.md').read_text()
# What differs from line to line: placeholders, figures, what others say, punctuation.
DIFFERS = re.compile(r'the work in hand| no \.\.\.|\b[A-Z_:/]{2,}\b|[\d.]+|[();,:]')
# Said by the system, or put together from parts.
NOT_LITERAL = ('Connection refused', 'messages not confirmed', 'waiting at most')


def texts_of_the_code():
    """Return all string constants of the scripts and their modules."""
    modules = [*ROOT.glob('*.py'), *ROOT.glob('siamese/**/*.py')]
    nodes = [node for path in modules for node in ast.walk(ast.parse(path.read_text()))]
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return '\n'.join(text for text in constants if isinstance(text, str))


def test_the_code_logs_each_line_of_the_reference():
    texts = texts_of_the_code()
    lines = re.findall(r'^\| `(.*?)` \|', LOG_LINES, re.MULTILINE)
    assert len(lines) > 15
    for line in lines:
        pieces = [piece.strip() for piece in DIFFERS.split(line)]
        pieces = [piece for piece in pieces if piece not in NOT_LITERAL]
        assert [piece for piece in pieces if piece not in texts] == [], line
