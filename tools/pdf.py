#!/usr/bin/env python3
"""Make one PDF of README.md and the pages that its list "More" names, with the diagrams drawn and all links inside.

    python tools/pdf.py siamese.pdf

Markdown becomes one page of HTML (markdown-it-py), in which Chromium draws the diagrams (mermaid), and which it prints.
Nothing of it needs the network. `make pdf` fetches all three before. Exit status: 0 done, 1 a diagram that mermaid does
not understand, 2 usage, 3 no Chromium, no mermaid, or no PDF.
"""

import argparse
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
MERMAID = ROOT / 'docs/.mermaid/node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js'
BROWSERS = ['chromium', 'chromium-browser', 'google-chrome']
LIMIT = 120  # seconds for the browser; it takes about 5

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>siamese</title><style>
@page { size: A4; margin: 18mm 14mm; @bottom-center { content: counter(page); font: 8pt 'DejaVu Sans', sans-serif } }
body { font: 9pt/1.45 'DejaVu Sans', 'Noto Sans CJK JP', Symbola, sans-serif; font-variant-ligatures: none; margin: 0 }
section { break-before: page }
h1 { font-size: 17pt } h2 { font-size: 13pt } h3 { font-size: 10.5pt }
h1, h2, h3, h4 { break-after: avoid; break-inside: avoid; line-height: 1.25 }
code, pre { font-family: 'DejaVu Sans Mono', 'Noto Sans Mono CJK JP', Symbola, monospace; font-size: 0.88em }
pre { background: #f4f4f4; padding: 2mm; white-space: pre-wrap; overflow-wrap: anywhere }
pre code { font-size: 6.9pt; line-height: 1.4 } /* 120 columns are as wide as the page */
code { overflow-wrap: break-word }
table { border-collapse: collapse; font-size: 8pt; margin: 3mm 0 }
th, td { border: 0.3pt solid #999; padding: 1mm 1.5mm; text-align: left; vertical-align: top }
tr, .mermaid { break-inside: avoid }
.mermaid { text-align: center; margin: 4mm 0 } .mermaid svg { max-height: 110mm }
img { max-width: 100% }
a { color: #0b4f9c; text-decoration: none }
nav ul { list-style: none } nav > ul > li { font-weight: bold; margin-top: 2mm }
nav li li { font-weight: normal }
</style></head><body>
<h1>siamese</h1>
BODY
<script src="MERMAID"></script><script>
mermaid.initialize({ startOnLoad: false, theme: 'neutral', fontFamily: 'DejaVu Sans' });
mermaid.run().then(() => console.log('diagrams: all drawn'), error => console.log('diagrams: ' + error.message));
</script></body></html>
"""


def pages():
    """Return the paths of what goes into the PDF: README.md, then the documents of its list "More"."""
    more = (ROOT / 'README.md').read_text(encoding='utf-8').partition('## More\n')[2]
    return [ROOT / name for name in ['README.md', *re.findall(r'\]\(([^)]+\.md)\)', more)]]


def slug(text):
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r'[^\w\- ]', '', text.lower()).replace(' ', '-')


def anchor(path, heading=''):
    """Return the anchor in the PDF of a document, or of a heading in it."""
    return f'{path.relative_to(ROOT)}-{heading}'.replace('/', '-')


def target(path, href, within):
    """Return where a link of the document `path` leads to in the PDF; '' if that is neither in it nor on the web."""
    if re.match('https?:', href):
        return href
    name, _, heading = href.partition('#')
    other = (path.parent / name).resolve() if name else path
    return f'#{anchor(other, heading)}' if other in within else ''


def render(path, within):
    """Return a document as HTML, and [(level, text, anchor)] of its headings."""
    parser, headings = MarkdownIt('commonmark').enable('table'), []
    tokens = parser.parse(path.read_text(encoding='utf-8'))
    for token, inline in zip(tokens, tokens[1:]):
        if token.type == 'heading_open':
            token.attrSet('id', anchor(path, slug(inline.content)))
            headings.append(
                (int(token.tag[1]), inline.content.replace('`', ''), token.attrGet('id'))
            )
    for child in (child for token in tokens for child in token.children or []):
        if child.type == 'link_open':
            href = target(path, child.attrGet('href'), within)
            child.attrs = {'href': href} if href else {}
        elif child.type == 'image':
            child.attrSet('src', (path.parent / child.attrGet('src')).resolve().as_uri())

    def fence(tokens, index, options, env):
        block = tokens[index]
        if block.info == 'mermaid':
            return f'<div class="mermaid">{html.escape(block.content)}</div>\n'
        return f'<pre><code>{html.escape(block.content)}</code></pre>\n'

    parser.renderer.rules['fence'] = fence
    body = parser.renderer.render(tokens, parser.options, {})
    return f'<section id="{anchor(path)}">\n{body}</section>\n', headings


def contents(chapters):
    """Return the table of contents of [headings of a document]."""
    lines = []
    for (_, title, place), *others in chapters:
        lines.append(f'<li><a href="#{place}">{html.escape(title)}</a><ul>')
        lines += [
            f'<li><a href="#{place}">{html.escape(text)}</a></li>'
            for level, text, place in others
            if level == 2
        ]
        lines.append('</ul></li>')
    return f'<nav><ul>{"".join(lines)}</ul></nav>'


def fail(status, message):
    print(f'pdf: {message}', file=sys.stderr)
    sys.exit(status)


def write_pdf(page, path):
    """Let the browser print the HTML `page` into `path`; return what it says of the diagrams."""
    browser = next(filter(shutil.which, BROWSERS), None)
    if not browser:
        fail(3, f'none of {", ".join(BROWSERS)} was found; see make pdf')
    with tempfile.TemporaryDirectory() as folder:
        source, printed = Path(folder, 'page.html'), Path(folder, 'page.pdf')
        source.write_text(page, encoding='utf-8')
        root = ['--no-sandbox'] * (os.getuid() == 0)  # root has no sandbox, and the page is ours
        try:
            done = subprocess.run(
                [
                    browser,
                    '--headless',
                    *root,
                    '--disable-gpu',
                    '--disable-dev-shm-usage',
                    '--enable-logging=stderr',
                    f'--user-data-dir={folder}/profile',
                    '--virtual-time-budget=60000',
                    '--no-pdf-header-footer',
                    '--generate-pdf-document-outline',
                    f'--print-to-pdf={printed}',
                    source.as_uri(),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding='utf-8',
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            fail(3, f'{browser} takes longer than {LIMIT} s')
        last = done.stderr.strip().rpartition('\n')[2]
        if done.returncode or not printed.exists():
            fail(
                3,
                f'{browser} ends with status {done.returncode} and without a PDF; it says: {last}',
            )
        try:
            shutil.copyfile(printed, path)
        except OSError as error:
            fail(3, f'cannot write {path}: {error.strerror}')
    said = re.search(r'"diagrams: (.*)", source', done.stderr)
    return said[1] if said else f'not drawn; {browser} says: {last}'


def main():
    parser = argparse.ArgumentParser(
        prog='pdf',
        usage=argparse.SUPPRESS,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('path', metavar='FILE', type=Path, help='the PDF')
    path = parser.parse_args().path.resolve()
    if not path.parent.is_dir():
        parser.error(f'there is no folder {path.parent}')
    if not MERMAID.exists():
        fail(3, f'there is no {MERMAID.relative_to(ROOT)}; see make pdf')
    within = pages()
    bodies, chapters = zip(*(render(page, within) for page in within))
    page = PAGE.replace('MERMAID', MERMAID.as_uri()).replace(
        'BODY', contents(chapters) + '\n'.join(bodies)
    )
    said = write_pdf(page, path)
    if said != 'all drawn':
        fail(1, f'diagrams {said}')
    diagrams = page.count('<div class="mermaid">')
    print(f'{path.name}: {len(within)} documents, {diagrams} diagrams')


if __name__ == '__main__':
    main()
