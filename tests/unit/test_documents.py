"""What the documents hold: answers, sections, links that lead somewhere. None of it is run."""

import re

import pytest

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
    text = (ROOT / 'docs' / f'{page}.md').read_text()
    assert '```mermaid\n' in text and '```console\n$ ' in text
    assert '\n## What it proves, and what it does not\n' in text


def test_links_in_the_documents_lead_somewhere():
    for path in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        for name, heading in re.findall(r'\]\((?!https:)([^)#]*)#?([^)]*)\)', path.read_text()):
            target = (path.parent / name) if name else path
            assert target.exists(), f'{path.name}: {name}'
            titles = re.findall(r'^#+ (.*)', target.read_text(), re.MULTILINE) if heading else []
            anchors = {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}
            assert not heading or heading in anchors, f'{path.name}: {name}#{heading}'
