"""What compare.py found out, as CI systems read it: XML in the format of JUnit.

A broker is a test suite, a check a test case: FAIL is a failure, not possible is
skipped, not known an error. Format: junit-10.xsd of Jenkins' xUnit plugin.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from siamese.text import printable

Document = dict[str, Any]  # see docs/explanation/compare.md
ELEMENTS = {'FAIL': 'failure', 'not known': 'error', 'not possible': 'skipped'}
COUNTS = {'failure': 'failures', 'error': 'errors', 'skipped': 'skipped'}  # attributes


def document(found: Document) -> str:
    """Return the XML of what is in the document of --json."""
    root = Element('testsuites', name='compare.py')
    for broker in found['brokers']:
        root.append(suite(broker, found))
    ElementTree.indent(root)
    xml = ElementTree.tostring(root, encoding='unicode')
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}\n'


def suite(broker: Document, found: Document) -> Element:
    """Return the test suite of one broker."""
    cells = broker['checks'].values()
    verdicts = [cell['verdict'] for cell in cells]
    attributes = {
        'name': f'{broker["broker"]} at {broker["address"]}',
        'tests': str(len(verdicts)),
        'time': seconds(sum(cell['took_s'] for cell in cells)),
        'timestamp': found['date'].rstrip('Z'),
    }
    for verdict, kind in ELEMENTS.items():
        attributes[COUNTS[kind]] = str(verdicts.count(verdict))
    element = Element('testsuite', escaped(attributes))
    properties = SubElement(element, 'properties')
    for name, value in about(found).items():
        SubElement(properties, 'property', escaped({'name': name, 'value': value}))
    for name, cell in broker['checks'].items():
        element.append(case(attributes['name'], name, cell))
    return element


def case(suite_name: str, name: str, cell: Document) -> Element:
    """Return the test case of one check."""
    attributes = {'classname': suite_name, 'name': name, 'time': seconds(cell['took_s'])}
    element = Element('testcase', escaped(attributes))
    text = printable(cell['text'])
    kind = ELEMENTS.get(cell['verdict'])
    if kind:
        details = escaped({'type': cell['verdict'], 'message': text})
        SubElement(element, kind, details).text = text
    else:
        SubElement(element, 'system-out').text = text
    return element


def about(found: Document) -> dict[str, str]:
    """Return what a reader has to know of the run, by name."""
    comparisons = [
        f'{each["check"]}, {each["figure"]}: {each["text"]}' for each in found['comparisons']
    ]
    return {
        'command': found['command'],
        'load': found['load']['text'],
        'comparisons': '; '.join(comparisons) or 'none',
    }


def seconds(duration_s: float) -> str:
    return f'{duration_s:.3f}'


def escaped(attributes: dict[str, str]) -> dict[str, str]:
    """Return attributes without the characters that XML cannot hold."""
    return {name: printable(value) for name, value in attributes.items()}
