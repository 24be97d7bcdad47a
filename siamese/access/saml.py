"""What a signed SAML 2.0 assertion claims, if nothing is wrong with it.

Signatures are signxml's work. What SAML asks for beyond them (SAML 2.0 core
and its bearer profile, RFC 7522 section 3) is checked here, on the element that
was signed and on no other. Everything that has a meaning to some XML parser
but not to ours is refused before one sees it: document types, entities,
comments, CDATA, processing instructions.
"""

from __future__ import annotations

import base64
import calendar
import re
import time
import zlib
from typing import NamedTuple

from lxml import etree
from signxml import (
    DigestAlgorithm,
    SignatureConfiguration,
    SignatureMethod,
    XMLVerifier,
)

MAX_XML_BYTES = 65_536  # what identity providers send has 2,000 to 10,000
CLOCK_SKEW_S = 30  # that clocks may differ
# How long an assertion may be valid from now on. Its ID is remembered so long.
MAX_VALIDITY_S = 86_400
NAMES = {
    'saml': 'urn:oasis:names:tc:SAML:2.0:assertion',
    'ds': 'http://www.w3.org/2000/09/xmldsig#',
}
ASSERTION = f'{{{NAMES["saml"]}}}Assertion'
SIGNATURE = f'{{{NAMES["ds"]}}}Signature'
KNOWN_CONDITIONS = {
    f'{{{NAMES["saml"]}}}AudienceRestriction',
    f'{{{NAMES["saml"]}}}OneTimeUse',
    f'{{{NAMES["saml"]}}}ProxyRestriction',
}
BEARER = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'
SIGNATURE_METHODS = {
    SignatureMethod.RSA_SHA256,
    SignatureMethod.RSA_SHA384,
    SignatureMethod.RSA_SHA512,
    SignatureMethod.ECDSA_SHA256,
    SignatureMethod.ECDSA_SHA384,
    SignatureMethod.ECDSA_SHA512,
}
DIGEST_ALGORITHMS = {
    DigestAlgorithm.SHA256,
    DigestAlgorithm.SHA384,
    DigestAlgorithm.SHA512,
}
SIGNED_BY = SignatureConfiguration(
    location='./',
    expect_references=1,
    signature_methods=frozenset(SIGNATURE_METHODS),
    digest_algorithms=frozenset(DIGEST_ALGORITHMS),
)
TIME = re.compile(r'[0-9T:-]{19}(\.[0-9]{1,9})?Z')  # UTC, as SAML wants it


class Trust(NamedTuple):
    """Whom to trust, and who we are.

    `certificates` are those of the identity provider, as PEM: one or (while it
    changes its key) several. The rest are URIs.
    """

    certificates: list[str]
    issuer: str
    audience: str
    recipient: str


class Claims(NamedTuple):
    """What an assertion says; `id` is its own, `subject` the person's name."""

    id: str
    subject: str
    attributes: dict[str, list[str]]
    expires: int  # s since 1970


class AssertionRefused(Exception):
    """The message says why in one line, and nothing secret."""


def decode(text: str) -> bytes:
    """Return the XML of an assertion in base64url; raise AssertionRefused.

    It may be deflated (without header, as in SAML's HTTP-Redirect binding):
    then it fits where passwords do.
    """
    if len(text) > MAX_XML_BYTES * 4 // 3:
        raise AssertionRefused(f'too large: {len(text)} characters')
    if not re.fullmatch(r'[A-Za-z0-9_-]+={0,2}', text):
        raise AssertionRefused('no base64url')
    try:
        data = base64.urlsafe_b64decode(text.rstrip('=') + '==')
        if data.startswith(b'<'):
            return data
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        xml = inflater.decompress(data, MAX_XML_BYTES + 1)
    except (ValueError, zlib.error):
        raise AssertionRefused(
            'neither XML nor deflated XML, in base64url',
        ) from None
    if len(xml) > MAX_XML_BYTES:
        raise AssertionRefused(
            f'too large: more than {MAX_XML_BYTES} bytes when inflated',
        )
    return xml


def verify(xml: bytes, trust: Trust, now: float) -> Claims:
    """Return the claims of a signed assertion; raise AssertionRefused.

    `xml` comes from decode(), `now` is in s since 1970.
    """
    signed = signed_element(parse(xml), trust.certificates)
    check_issue(signed, trust.issuer, now)
    conditions = one(signed, 'Conditions')
    end = check_times(conditions, now)
    bearer_end = check_subject(one(signed, 'Subject'), trust.recipient, now)
    check_conditions(conditions, trust.audience)
    return Claims(
        id=signed.get('ID'),
        attributes=attributes_of(signed),
        subject=subject_of(signed),
        expires=min(end, bearer_end),
    )


# ---- the XML and its signature


def parse(xml: bytes) -> etree._Element:
    """Return the root of an assertion.

    It has exactly one signature, and no assertion within it.
    """
    if b'<!' in xml or b'<?' in xml[1:]:
        raise AssertionRefused(
            'a document type, a comment, CDATA or a processing instruction in it',
        )
    # The encoding is fixed: the test above would see nothing in UTF-16.
    parser = etree.XMLParser(
        encoding='utf-8',
        resolve_entities=False,
        no_network=True,
    )
    try:
        root = etree.fromstring(xml, parser)
    except etree.XMLSyntaxError as error:
        raise AssertionRefused(
            f'not well-formed XML in UTF-8 ({plain(error):.100})',
        ) from None
    if root.tag != ASSERTION or root.get('Version') != '2.0' or not root.get('ID'):
        raise AssertionRefused('no SAML 2.0 assertion')
    if len(list(root.iter(ASSERTION))) != 1:
        raise AssertionRefused('an assertion within the assertion')
    signatures = len(list(root.iter(SIGNATURE)))
    if not signatures:
        raise AssertionRefused('not signed')
    if signatures > 1:
        raise AssertionRefused(f'{signatures} signatures')
    return root


def plain(error: Exception) -> str:
    """Return an error's words in one line of ASCII.

    A stranger's words may be among them.
    """
    line = ' '.join(str(error).split())
    return line.encode('ascii', 'backslashreplace').decode()


def signed_element(
    root: etree._Element,
    certificates: list[str],
) -> etree._Element:
    """Return what the signature covers.

    That must be all of `root`, and signed by one of `certificates`.
    """
    reason = 'there is no certificate'
    for certificate in certificates:
        try:
            signed = signed_by(certificate, root)
        # Whatever a stranger's XML makes signxml stumble over.
        except Exception as error:  # noqa: BLE001
            reason = plain(error) or type(error).__name__
            continue
        if signed is None or signed.tag != ASSERTION or signed.get('ID') != root.get('ID'):
            raise AssertionRefused('the signature covers something else')
        return signed
    raise AssertionRefused(f'the signature does not hold: {reason:.200}')


def signed_by(
    certificate: str,
    root: etree._Element,
) -> etree._Element | None:
    """Verify the signature in `root`; return the element that it covers."""
    result = XMLVerifier().verify(
        root,
        x509_cert=certificate,
        id_attribute='ID',
        expect_config=SIGNED_BY,
    )
    if isinstance(result, list):  # only for several references
        return None
    return result.signed_xml


# ---- what SAML asks for


def check_issue(signed: etree._Element, trusted: str, now: float) -> None:
    """Check who issued the assertion, and when."""
    issuer = text_of(one(signed, 'Issuer'))
    if issuer != trusted:
        raise AssertionRefused(f'wrong issuer {issuer!a:.200}')
    if instant(signed, 'IssueInstant') > now + CLOCK_SKEW_S:
        issued = signed.get('IssueInstant')
        raise AssertionRefused(f'issued in the future, at {issued}')


def check_conditions(conditions: etree._Element, audience: str) -> None:
    """Check that all conditions are known, and that they name the audience."""
    for child in conditions:
        if child.tag not in KNOWN_CONDITIONS:
            raise AssertionRefused('a condition of a kind that is not known here')
    restrictions = [
        texts(restriction, 'Audience')
        for restriction in conditions.findall('saml:AudienceRestriction', NAMES)
    ]
    named = all(audience in audiences for audiences in restrictions)
    if not restrictions or not named:
        found: list[str] = []
        for audiences in restrictions:
            found.extend(audiences)
        raise AssertionRefused(f'wrong audience {found!a:.200}')


def check_subject(
    subject: etree._Element,
    recipient: str,
    now: float,
) -> int:
    """Check who may hand in an assertion about `subject`, and where.

    Returns until when, in s since 1970.
    """
    confirmations = [
        confirmation
        for confirmation in subject.findall('saml:SubjectConfirmation', NAMES)
        if confirmation.get('Method') == BEARER
    ]
    if len(confirmations) != 1:
        raise AssertionRefused(
            f'{len(confirmations)} bearer confirmations instead of one',
        )
    data = one(confirmations[0], 'SubjectConfirmationData')
    if data.get('Recipient') != recipient:
        found = data.get('Recipient')
        raise AssertionRefused(f'wrong recipient {found!a:.200}')
    return check_times(data, now)


def check_times(element: etree._Element, now: float) -> int:
    """Check NotBefore, if it is there, and NotOnOrAfter; return the latter."""
    begin_text = element.get('NotBefore')
    end_text = element.get('NotOnOrAfter')
    end = instant(element, 'NotOnOrAfter')
    if begin_text and instant(element, 'NotBefore') > now + CLOCK_SKEW_S:
        raise AssertionRefused(f'not valid before {begin_text}')
    if end <= now - CLOCK_SKEW_S:
        raise AssertionRefused(f'expired at {end_text}')
    if end > now + MAX_VALIDITY_S:
        raise AssertionRefused(
            f'valid until {end_text}, more than {MAX_VALIDITY_S} s from now',
        )
    return end


# ---- what it claims


def attributes_of(signed: etree._Element) -> dict[str, list[str]]:
    """Return the attributes of the subject, each of them a list of values."""
    attributes: dict[str, list[str]] = {}
    path = 'saml:AttributeStatement/saml:Attribute'
    for attribute in signed.findall(path, NAMES):
        name = attribute.get('Name')
        if name in attributes:
            raise AssertionRefused(f'the attribute {name!a:.100} comes twice')
        attributes[name] = texts(attribute, 'AttributeValue')
    return attributes


def subject_of(signed: etree._Element) -> str:
    """Return the name of the subject."""
    subject = text_of(one(signed, 'Subject/saml:NameID'))
    if not subject.isprintable() or not subject.strip() or len(subject) > 200:
        raise AssertionRefused('the NameID has not 1 to 200 printable characters')
    return subject


# ---- elements


def instant(element: etree._Element, name: str) -> int:
    """Return an attribute that is a time, in s since 1970."""
    text = element.get(name, '')
    if not text:
        raise AssertionRefused(f'{name} is missing')
    try:
        if not TIME.fullmatch(text):
            raise ValueError
        parsed = time.strptime(text[:19], '%Y-%m-%dT%H:%M:%S')
        return calendar.timegm(parsed)
    except ValueError:
        raise AssertionRefused(f'{name} {text!a:.50} is no time in UTC') from None


def one(element: etree._Element, path: str) -> etree._Element:
    """Return the one element of SAML's namespace at a path."""
    found = element.findall(f'saml:{path}', NAMES)
    if len(found) != 1:
        shown = path.replace('saml:', '')
        raise AssertionRefused(f'{len(found)} elements {shown} instead of one')
    return found[0]


def text_of(element: etree._Element) -> str:
    """Return the text of an element that holds nothing else.

    In an element with a child, `text` would be only what stands before that.
    """
    if len(element):
        name = etree.QName(element).localname
        raise AssertionRefused(f'an element in {name}')
    return element.text or ''


def texts(element: etree._Element, name: str) -> list[str]:
    """Return the texts of the children of one name.

    Children that hold elements (as eduPersonTargetedID does) are left out.
    """
    children = element.findall(f'saml:{name}', NAMES)
    return [child.text or '' for child in children if not len(child)]
