"""make pdf, in a clean clone.

All headings and code of the documents are on its pages, the diagrams are drawn,
and the links lead to places in the PDF.
"""

import re
import subprocess

import pytest
from pdf import pages as documents
from pypdf import PdfReader
from support.documents import answer_of, clone_into, environment, pages
from support.processes import TEST_TIMEOUT_S

from siamese import ROOT, VERSION

# A browser that makes an empty PDF.
PRINTS = 'for word; do case $word in --print*) : >"${word#*=}"; esac; done'
MARGIN_PT = 30  # at the right edge


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """The folder of a clean clone in which make pdf was called, and what that printed."""
    folder = clone_into(tmp_path_factory.mktemp('clone'))
    done = subprocess.run(
        ['make', '--no-print-directory', 'pdf'],
        cwd=folder,
        env=environment(),
        encoding='utf-8',
        capture_output=True,
        timeout=4 * TEST_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture(scope='module')
def pdf(made):
    return PdfReader(made[0] / 'siamese.pdf')


def squeezed(text):
    """Return text without blanks: a PDF has none, it places its words."""
    return re.sub(r'\s', '', text)


def text_of(pdf):
    """Return the text of all pages, without blanks and page numbers."""
    return squeezed(
        ''.join(
            page.extract_text().lstrip().removeprefix(str(number))
            for number, page in enumerate(pdf.pages, 1)
        )
    )


def test_it_prints_what_the_documents_show(made):
    assert made[1] == answer_of('make pdf')


@pytest.mark.parametrize(
    'browser, flags, status, words',
    [
        ('', [], 2, 'required: FILE'),
        ('', ['/none/siamese.pdf'], 2, 'there is no folder /none'),
        ('', ['--nonsense', 'x'], 2, 'unrecognized arguments'),
        (
            'echo a >&2; echo b >&2; exit 5',
            ['x.pdf'],
            3,
            'chromium ends with status 5 and without a PDF; it says: b',
        ),
        ('echo c >&2', ['x.pdf'], 3, 'chromium ends with status 0 and without a PDF; it says: c'),
        (PRINTS, ['docs'], 3, 'cannot write'),
        (f'{PRINTS}; echo d >&2', ['x.pdf'], 1, 'diagrams not drawn; chromium says: d'),
    ],
)
def test_an_error_takes_one_line(made, tmp_path, browser, flags, status, words):
    (tmp_path / 'chromium').write_text(f'#!/bin/sh\n{browser}')
    (tmp_path / 'chromium').chmod(0o755)
    path = f'{tmp_path}:{environment()["PATH"]}'
    done = subprocess.run(
        ['python', 'tools/pdf.py', *flags],
        cwd=made[0],
        env=environment(PATH=path),
        encoding='utf-8',
        capture_output=True,
    )
    assert (
        done.returncode == status
        and words in done.stderr
        and done.stderr.count('\n') == 1
        and not done.stdout
    )


def test_without_mermaid_it_says_how_to_get_it(copy):
    done = subprocess.run(
        ['python', 'tools/pdf.py', 'x.pdf'],
        cwd=copy,
        env=environment(),
        encoding='utf-8',
        capture_output=True,
    )
    assert done.returncode == 3 and 'see make pdf' in done.stderr and done.stderr.count('\n') == 1
    assert not (copy / 'x.pdf').exists()


def test_its_help_shows_how_to_call_it(tmp_path):
    done = subprocess.run(
        ['python', ROOT / 'tools/pdf.py', '--help'],
        cwd=tmp_path,
        env=environment(),
        encoding='utf-8',
        capture_output=True,
    )
    assert (
        done.returncode == 0
        and 'python tools/pdf.py siamese.pdf' in done.stdout
        and not list(tmp_path.iterdir())
    )


def test_every_document_is_in_it():
    """The index is not: the contents of the PDF stand in its place."""
    index = ROOT / 'docs' / 'index.md'
    assert set(documents()) >= {ROOT / 'README.md', *pages()} - {index}


def contents_of(pdf):
    """Return [(heading, number of its page)] of the contents."""
    found = []
    for page in pdf.pages[1:6]:
        _, *lines = page.extract_text().splitlines()  # the first is the page's own number
        numbers = [int(line) for line in lines if line.isdigit()]
        found += zip([line for line in lines if not line.isdigit()], numbers)
    return found


def test_the_contents_tell_the_page_of_each_chapter(pdf):
    told = contents_of(pdf)
    begins = [squeezed(page.extract_text()) for page in pdf.pages]
    for path in documents():
        title = headings_of(path.read_text())[0]
        page = min(
            number
            for number, text in enumerate(begins, 1)
            if number > 1 and text.startswith(f'{number}{squeezed(title)}')
        )
        assert (title, page) in told


def test_the_cover_tells_the_version(pdf):
    assert f'Version {VERSION}, 20' in pdf.pages[0].extract_text()


def test_all_headings_and_all_code_are_on_the_pages(pdf):
    text = text_of(pdf)
    for path in documents():
        source = path.read_text()
        for heading in headings_of(source):
            assert squeezed(heading) in text, f'{path.name}: {heading}'
        for line in code_of(source):
            assert squeezed(line) in text, f'{path.name}: {line}'


def headings_of(source):
    prose = re.sub(r'```.*?```', '', source, flags=re.DOTALL)
    found = re.findall(r'^#+ (.*)', prose, re.MULTILINE)
    return [heading.replace('`', '') for heading in found]


def code_of(source):
    """Return the lines of code of a document that are ASCII; not diagrams."""
    fence = r'^ *```(\w*)\n(.*?)^ *```'
    lines = []
    for kind, block in re.findall(fence, source, re.MULTILINE | re.DOTALL):
        if kind != 'mermaid':
            lines += block.splitlines()
    return [line for line in lines if line.isascii()]


def test_nothing_runs_over_the_edge(pdf):
    for page in pdf.pages:
        width, ends = float(page.mediabox.width), []

        def look(text, matrix, text_matrix, font, size, ends=ends):
            if text.strip() and font and 'Mono' in font.get('/BaseFont', ''):
                left = text_matrix[4] * matrix[0] + matrix[4]
                ends.append(
                    (
                        left + len(text.rstrip()) * 0.602 * abs(size * text_matrix[0] * matrix[0]),
                        text,
                    )
                )

        page.extract_text(visitor_text=look)
        assert all(end < width - MARGIN_PT for end, _ in ends), max(ends)


def test_no_glyph_is_missing(pdf):
    text = ''.join(page.extract_text() for page in pdf.pages)
    for character in '键值キー値𝄞𠮷🐇…µ':  # the text of a missing glyph is lost
        assert character in text, character
    assert any(
        font['/BaseFont'].endswith('DejaVuSansMono')
        for page in pdf.pages
        for font in (reference.get_object() for reference in page['/Resources']['/Font'].values())
        if '/BaseFont' in font
    )


def test_the_diagrams_are_drawn(pdf):
    everything = ''.join(path.read_text() for path in documents())
    sources = re.findall(r'```mermaid\n(.*?)```', everything, re.DOTALL)
    assert len(sources) >= 7
    text = text_of(pdf)
    assert 'graphLR' not in text and '-->' not in text
    labels = {
        label for source in sources for label in re.findall(r'[{(\[/]([a-z_]+\.py)[)}\]/]', source)
    }
    assert labels and all(label in text for label in labels)


def test_links_stay_inside_or_lead_to_the_web(pdf):
    targets = [
        annotation.get_object()['/A']['/URI']
        for page in pdf.pages
        for annotation in page.get('/Annots', [])
        if '/URI' in annotation.get_object().get('/A', {})
    ]
    assert targets and all(target.startswith('https://') for target in targets), targets
    assert len(pdf.named_destinations) > 50
    assert pdf.outline
