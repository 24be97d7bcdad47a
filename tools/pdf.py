#!/usr/bin/env python3
"""Make one PDF of README.md and of the pages in docs/.

    python tools/pdf.py siamese.pdf

First the questions of the wiki and their answers, then the pages in the order
of docs/index.md. Diagrams are drawn, and links lead to places in the PDF.
Markdown becomes one page of HTML (markdown-it-py), in which Chromium draws the
diagrams (mermaid) and which it prints; twice, for only then the contents know
the numbers of the pages (pypdf reads them). None of it needs the network. `make
pdf` fetches all of it before.

Exit status: 0 done; 1 mermaid does not understand a diagram; 2 usage; 3 there
is no Chromium, no mermaid, or no PDF.
"""

import argparse
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from siamese import VERSION  # noqa: E402

FIRST = ['README.md', 'docs/wiki.md', 'docs/answers.md']
MODULES = ROOT / 'docs' / '.mermaid' / 'node_modules'
MERMAID = MODULES / '@mermaid-js' / 'tiny' / 'dist' / 'mermaid.tiny.js'
BROWSERS = ['chromium', 'chromium-browser', 'google-chrome']
BROWSER_TIMEOUT_S = 300  # it takes about 5
DRAWING_BUDGET_MS = 60_000
ALL_DRAWN = 'all drawn'

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>siamese</title><style>
@page {
  size: A4;
  margin: 18mm 14mm;
  @bottom-center {
    content: counter(page);
    font: 8pt 'DejaVu Sans', sans-serif;
  }
}
body {
  font: 9pt/1.45 'DejaVu Sans', 'Noto Sans CJK JP', Symbola, sans-serif;
  font-variant-ligatures: none;
  margin: 0;
}
section { break-before: page }
h1 { font-size: 17pt } h2 { font-size: 13pt } h3 { font-size: 10.5pt }
h1, h2, h3, h4 { break-after: avoid; break-inside: avoid; line-height: 1.25 }
code, pre {
  font-family: 'DejaVu Sans Mono', 'Noto Sans Mono CJK JP', Symbola, monospace;
  font-size: 0.88em;
}
pre {
  background: #f4f4f4;
  padding: 2mm;
  white-space: pre-wrap;
  overflow-wrap: anywhere;
}
/* 120 columns are as wide as the page */
pre code { font-size: 6.9pt; line-height: 1.4 }
code { overflow-wrap: break-word }
table { border-collapse: collapse; font-size: 8pt; margin: 3mm 0 }
th, td {
  border: 0.3pt solid #999;
  padding: 1mm 1.5mm;
  text-align: left;
  vertical-align: top;
}
tr, .mermaid { break-inside: avoid }
.mermaid { text-align: center; margin: 4mm 0 }
.mermaid svg { max-height: 110mm }
img { max-width: 100% }
a { color: #0b4f9c; text-decoration: none }
nav ul { list-style: none }
nav > ul > li { font-weight: bold; margin-top: 2mm }
nav li li { font-weight: normal }
nav .page { float: right; font-weight: normal }
.cover { padding-top: 80mm; text-align: center; break-after: page }
.cover h1 { font-size: 40pt }
</style></head><body>
<div class="cover"><h1>siamese</h1>
<p>Can this message broker be trusted?</p>
<p>Version VERSION, DATE</p></div>
BODY
<script src="MERMAID"></script><script>
mermaid.initialize({
  startOnLoad: false,
  theme: 'neutral',
  fontFamily: 'DejaVu Sans',
});
mermaid.run().then(
  () => console.log('diagrams: all drawn'),
  error => console.log('diagrams: ' + error.message),
);
</script></body></html>
"""


class Heading(NamedTuple):
    level: int
    text: str
    anchor: str


def pages():
    """Return the paths of the documents: FIRST, then those of docs/index.md in its order."""
    index = ROOT / 'docs' / 'index.md'
    links = re.findall(r'\]\(([^)#]+\.md)\)', index.read_text(encoding='utf-8'))
    listed = [(index.parent / link).resolve() for link in links]
    more = [ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md']
    return list(dict.fromkeys([*(ROOT / name for name in FIRST), *listed, *more]))


# ---- anchors and links


def slug(text):
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r'[^\w\- ]', '', text.lower()).replace(' ', '-')


def anchor(path, heading=''):
    """Return the anchor in the PDF of a document, or of a heading in it."""
    return f'{path.relative_to(ROOT)}-{heading}'.replace('/', '-')


def target(path, href, within):
    """Return where a link of the document `path` leads to in the PDF.

    Return '' if that is neither a document `within` the PDF nor on the web.
    """
    if re.match('https?:', href):
        return href
    name, _, heading = href.partition('#')
    other = path
    if name:
        other = (path.parent / name).resolve()
    if other not in within:
        return ''
    return f'#{anchor(other, heading)}'


# ---- HTML


def render(path, within):
    """Return a document as HTML, and its list of headings."""
    parser = MarkdownIt('commonmark').enable('table')
    parser.add_render_rule('fence', render_fence)
    tokens = parser.parse(path.read_text(encoding='utf-8'))
    headings = mark_headings(path, tokens)
    for token in tokens:
        for child in token.children or []:
            adapt(child, path, within)
    body = parser.renderer.render(tokens, parser.options, {})
    section = f'<section id="{anchor(path)}">\n{body}</section>\n'
    return section, headings


def mark_headings(path, tokens):
    """Give each heading its anchor; return the headings."""
    headings = []
    for token, inline in zip(tokens, tokens[1:]):
        if token.type != 'heading_open':
            continue
        place = anchor(path, slug(inline.content))
        token.attrSet('id', place)
        level = int(token.tag[1])
        text = inline.content.replace('`', '')
        headings.append(Heading(level, text, place))
    return headings


def adapt(token, path, within):
    """Make a link of the document `path` lead into the PDF.

    A link to a file that is not in the PDF becomes plain text. An image is
    taken from its file.
    """
    if token.type == 'link_open':
        href = target(path, token.attrGet('href'), within)
        token.attrs = {}
        if href:
            token.attrs['href'] = href
    elif token.type == 'image':
        file = (path.parent / token.attrGet('src')).resolve()
        token.attrSet('src', file.as_uri())


def render_fence(renderer, tokens, index, options, env):
    block = tokens[index]
    text = html.escape(block.content)
    if block.info == 'mermaid':
        return f'<div class="mermaid">{text}</div>\n'
    return f'<pre><code>{text}</code></pre>\n'


def contents(chapters, numbers):
    """Return the table of contents; a chapter is a list of headings.

    `numbers` says on which page of the PDF an anchor is; {}: not known yet.
    """
    lines = []
    for title, *others in chapters:
        lines.append(f'<li>{link_to(title, numbers)}<ul>')
        seconds = [heading for heading in others if heading.level == 2]
        lines += [f'<li>{link_to(heading, numbers)}</li>' for heading in seconds]
        lines.append('</ul></li>')
    return f'<nav><ul>{"".join(lines)}</ul></nav>'


def link_to(heading, numbers):
    text = html.escape(heading.text)
    number = numbers.get(heading.anchor, '')
    link = f'<a href="#{heading.anchor}">{text}</a>'
    return f'{link} <span class="page">{number}</span>'


def numbers_in(path):
    """Return {anchor: number of its page} of a PDF."""
    reader = PdfReader(path)
    found = {}
    for name, place in reader.named_destinations.items():
        number = reader.get_destination_page_number(place)
        if number is not None:
            found[name.lstrip('/')] = number + 1
    return found


def page_of(paths, numbers):
    """Return documents as one page of HTML; for `numbers` see contents()."""
    bodies = []
    chapters = []
    for path in paths:
        body, headings = render(path, paths)
        bodies.append(body)
        chapters.append(headings)
    body = contents(chapters, numbers) + '\n'.join(bodies)
    page = PAGE.replace('MERMAID', MERMAID.as_uri())
    page = page.replace('VERSION', VERSION).replace('DATE', time.strftime('%Y-%m-%d'))
    return page.replace('BODY', body)


# ---- the browser


def fail(status, message):
    print(f'pdf: {message}', file=sys.stderr)
    sys.exit(status)


def find_browser():
    browser = next(filter(shutil.which, BROWSERS), None)
    if browser is None:
        fail(3, f'none of {", ".join(BROWSERS)} was found; see make pdf')
    return browser


def write_pdf(page, path):
    """Print the HTML `page` into the file `path`.

    Return what the page says about its diagrams.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, 'page.pdf')
        log = print_page(browser, page, folder, printed)
        try:
            shutil.copyfile(printed, path)
        except OSError as error:
            fail(3, f'cannot write {path}: {error.strerror}')
    said = re.search(r'"diagrams: (.*)", source', log)
    if said:
        return said[1]
    return f'not drawn; {browser} says: {last_line(log)}'


def print_page(browser, page, folder, printed):
    """Let the browser print a page into the file `printed`; return its log."""
    source = Path(folder, 'page.html')
    source.write_text(page, encoding='utf-8')
    command = [
        browser,
        '--headless',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--enable-logging=stderr',
        f'--user-data-dir={folder}/profile',
        f'--virtual-time-budget={DRAWING_BUDGET_MS}',
        '--no-pdf-header-footer',
        '--force-prefers-reduced-motion',  # of moving pictures the last frame
        '--generate-pdf-document-outline',
        f'--print-to-pdf={printed}',
    ]
    if os.getuid() == 0:  # root has no sandbox, and the page is ours
        command.append('--no-sandbox')
    command.append(source.as_uri())
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding='utf-8',
            timeout=BROWSER_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        fail(3, f'{browser} takes longer than {BROWSER_TIMEOUT_S} s')
    if done.returncode or not printed.exists():
        fail(
            3,
            f'{browser} ends with status {done.returncode} '
            f'and without a PDF; it says: {last_line(done.stderr)}',
        )
    return done.stderr


def last_line(text):
    return text.strip().rpartition('\n')[2]


# ---- the command


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message):
        self.exit(2, f'{self.prog}: {message}\n')


def parse_args():
    parser = Parser(
        prog='pdf',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'path',
        metavar='FILE',
        type=Path,
        help='the PDF to write',
    )
    args = parser.parse_args()
    args.path = args.path.resolve()
    if not args.path.parent.is_dir():
        parser.error(f'there is no folder {args.path.parent}')
    return args


def main():
    args = parse_args()
    if not MERMAID.exists():
        fail(3, f'there is no {MERMAID.relative_to(ROOT)}; see make pdf')
    paths = pages()
    page = page_of(paths, {})
    said = write_pdf(page, args.path)
    if said != ALL_DRAWN:
        fail(1, f'diagrams {said}')
    write_pdf(page_of(paths, numbers_in(args.path)), args.path)
    diagrams = page.count('<div class="mermaid">')
    documents = len(paths)
    name = args.path.name
    print(f'{name}: {documents} documents, {diagrams} diagrams')


if __name__ == '__main__':
    main()
