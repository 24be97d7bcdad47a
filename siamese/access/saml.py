"""What a signed SAML 2.0 assertion claims, if nothing is wrong with it.

Signatures are signxml's work; what SAML asks for beyond them (SAML 2.0 core and its bearer profile, RFC 7522 section 3)
is checked here, on the element that was signed and on no other. Everything that has a meaning to some XML parser but
not to ours is refused before one sees it: document types, entities, comments, CDATA, processing instructions.
"""

import base64
import calendar
import re
import time
import zlib
from collections import namedtuple

from lxml import etree
from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLVerifier

LARGEST = 65_536  # bytes of XML; what identity providers send has 2,000 to 10,000
SKEW = 30  # s that clocks may differ
LONGEST = 86_400  # s that an assertion may be valid from now on; so long must its ID be remembered
NAMES = {
    'saml': 'urn:oasis:names:tc:SAML:2.0:assertion',
    'ds': 'http://www.w3.org/2000/09/xmldsig#',
}
ASSERTION = f'{{{NAMES["saml"]}}}Assertion'
CONDITIONS = {
    f'{{{NAMES["saml"]}}}{name}'
    for name in ('AudienceRestriction', 'OneTimeUse', 'ProxyRestriction')
}
BEARER = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'
SIGNED_BY = SignatureConfiguration(
    location='./',
    expect_references=1,
    signature_methods=frozenset(
        {
            SignatureMethod.RSA_SHA256,
            SignatureMethod.RSA_SHA384,
            SignatureMethod.RSA_SHA512,
            SignatureMethod.ECDSA_SHA256,
            SignatureMethod.ECDSA_SHA384,
            SignatureMethod.ECDSA_SHA512,
        }
    ),
    digest_algorithms=frozenset(
        {DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512}
    ),
)

# certificates: PEM of the identity provider, one or (while it changes its key) several; the rest are URIs.
Trust = namedtuple('Trust', 'certificates issuer audience recipient')
# id of the assertion, name of the subject, {attribute: [values]}, and when it ends (s since 1970).
Claims = namedtuple('Claims', 'id subject attributes expires')


class Refused(Exception):
    """An assertion that is not accepted; the message says why in one line, and nothing secret."""


def decode(text):
    """Return the XML, as bytes, of an assertion in base64url, deflated first or not; raise Refused.

    Deflated (without header, as in SAML's HTTP-Redirect binding) it fits where passwords do.
    """
    if len(text) > LARGEST * 4 // 3:
        raise Refused(f'too large: {len(text)} characters')
    if not re.fullmatch(r'[A-Za-z0-9_-]+={0,2}', text):
        raise Refused('no base64url')
    try:
        data = base64.urlsafe_b64decode(text.rstrip('=') + '==')
        if data.startswith(b'<'):
            return data
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        xml = inflater.decompress(data, LARGEST + 1)
    except (ValueError, zlib.error):
        raise Refused('neither XML nor deflated XML, in base64url') from None
    if len(xml) > LARGEST:
        raise Refused(f'too large: more than {LARGEST} bytes when inflated')
    return xml


def verify(xml, trust, now):
    """Return the Claims of a signed assertion, bytes from decode(), at the time `now` (s since 1970); raise Refused."""
    signed = signed_element(parse(xml), trust.certificates)
    issuer = text_of(one(signed, 'Issuer'))
    if issuer != trust.issuer:
        raise Refused(f'wrong issuer {issuer!a:.200}')
    if instant(signed, 'IssueInstant') > now + SKEW:
        raise Refused(f'issued in the future, at {signed.get("IssueInstant")}')
    conditions = one(signed, 'Conditions')
    ends = [
        check_times(conditions, now),
        check_subject(one(signed, 'Subject'), trust.recipient, now),
    ]
    if not CONDITIONS.issuperset(child.tag for child in conditions):
        raise Refused('a condition of a kind that is not known here')
    restrictions = conditions.findall('saml:AudienceRestriction', NAMES)
    if not restrictions or any(
        trust.audience not in texts(restriction, 'Audience') for restriction in restrictions
    ):
        raise Refused(
            f'wrong audience {[text for each in restrictions for text in texts(each, "Audience")]!a:.200}'
        )
    attributes = {}
    for attribute in signed.findall('saml:AttributeStatement/saml:Attribute', NAMES):
        if attribute.get('Name') in attributes:
            raise Refused(f'the attribute {attribute.get("Name")!a:.100} comes twice')
        attributes[attribute.get('Name')] = texts(attribute, 'AttributeValue')
    subject = text_of(one(signed, 'Subject/saml:NameID'))
    if not subject.isprintable() or not 0 < len(subject) <= 200:
        raise Refused('the NameID has not 1 to 200 printable characters')
    return Claims(signed.get('ID'), subject, attributes, min(ends))


def parse(xml):
    """Return the root of an assertion that has exactly one signature and nothing within it that is an assertion."""
    if b'<!' in xml or b'<?' in xml[1:]:
        raise Refused('a document type, a comment, CDATA or a processing instruction in it')
    try:
        # The encoding is fixed: in UTF-16, say, the test above would not see anything.
        root = etree.fromstring(
            xml, etree.XMLParser(encoding='utf-8', resolve_entities=False, no_network=True)
        )
    except etree.XMLSyntaxError as error:
        raise Refused(f'not well-formed XML in UTF-8 ({plain(error):.100})') from None
    if root.tag != ASSERTION or root.get('Version') != '2.0' or not root.get('ID'):
        raise Refused('no SAML 2.0 assertion')
    if sum(1 for _ in root.iter(ASSERTION)) != 1:
        raise Refused('an assertion within the assertion')
    signatures = sum(1 for _ in root.iter(f'{{{NAMES["ds"]}}}Signature'))
    if signatures != 1:
        raise Refused('not signed' if not signatures else f'{signatures} signatures')
    return root


def plain(error):
    """Return an error's words, in which a stranger's may be, in one line of ASCII."""
    return ' '.join(str(error).split()).encode('ascii', 'backslashreplace').decode()


def signed_element(root, certificates):
    """Return what the signature covers, which must be all of `root` and signed by one of `certificates`."""
    for certificate in certificates:
        try:
            signed = (
                XMLVerifier()
                .verify(root, x509_cert=certificate, id_attribute='ID', expect_config=SIGNED_BY)
                .signed_xml
            )
            break
        except Exception as error:  # noqa: BLE001  whatever a stranger's XML makes signxml stumble over
            reason = plain(error) or type(error).__name__
    else:
        raise Refused(f'the signature does not hold: {reason:.200}')
    if signed is None or signed.tag != ASSERTION or signed.get('ID') != root.get('ID'):
        raise Refused('the signature covers something else')
    return signed


def check_subject(subject, recipient, now):
    """Check who may hand in an assertion about `subject`, and where; return until when."""
    confirmations = [
        confirmation
        for confirmation in subject.findall('saml:SubjectConfirmation', NAMES)
        if confirmation.get('Method') == BEARER
    ]
    if len(confirmations) != 1:
        raise Refused(f'{len(confirmations)} bearer confirmations instead of one')
    data = one(confirmations[0], 'SubjectConfirmationData')
    if data.get('Recipient') != recipient:
        raise Refused(f'wrong recipient {data.get("Recipient")!a:.200}')
    return check_times(data, now)


def check_times(element, now):
    """Check NotBefore, if it is there, and NotOnOrAfter; return the latter."""
    end = instant(element, 'NotOnOrAfter')
    if element.get('NotBefore') and instant(element, 'NotBefore') > now + SKEW:
        raise Refused(f'not valid before {element.get("NotBefore")}')
    if end <= now - SKEW:
        raise Refused(f'expired at {element.get("NotOnOrAfter")}')
    if end > now + LONGEST:
        raise Refused(f'valid until {element.get("NotOnOrAfter")}, more than {LONGEST} s from now')
    return end


def instant(element, name):
    """Return an attribute, UTC in xs:dateTime as SAML wants it, in s since 1970."""
    text = element.get(name, '')
    try:
        if not re.fullmatch(r'[0-9T:-]{19}(\.[0-9]{1,9})?Z', text):
            raise ValueError
        return calendar.timegm(time.strptime(text[:19], '%Y-%m-%dT%H:%M:%S'))
    except ValueError:
        raise Refused(
            f'{name} {text!a:.50} is no time in UTC' if text else f'{name} is missing'
        ) from None


def one(element, path):
    """Return the one element of SAML's namespace at a path."""
    found = element.findall(f'saml:{path}', NAMES)
    if len(found) != 1:
        raise Refused(f'{len(found)} elements {path.replace("saml:", "")} instead of one')
    return found[0]


def text_of(element):
    """Return the text of an element that holds nothing else; with a child, `text` is only what stands before that."""
    if len(element):
        raise Refused(f'an element in {etree.QName(element).localname}')
    return element.text or ''


def texts(element, name):
    """Return the texts of the children of one name, without those that hold elements (as eduPersonTargetedID does)."""
    return [child.text or '' for child in element.findall(f'saml:{name}', NAMES) if not len(child)]
