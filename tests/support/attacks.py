"""Assertions that must be refused: ATTACKS are {name: (make, words)}.

make(provider, stranger) returns an assertion, as XML or, in bytes, as it is
sent. `stranger` is an identity provider that has another key. The refusal
contains the `words`.
"""

import base64
import datetime
import re
import zlib

from support.identity import SHA1, SHA256, encoded, unsigned

FAR = 'https://elsewhere.example'
SHA1_SIGNATURE = {**SHA256, 'sign_alg': SHA1['sign_alg']}
SHA1_DIGEST = {**SHA256, 'digest_alg': SHA1['digest_alg']}
METHOD = r'(SignatureMethod Algorithm=")[^"]*'
HMAC = 'http://www.w3.org/2001/04/xmldsig-more#hmac-sha256'
TIME_FORMAT = '%Y-%m-%dT%H:%M:%SZ'


def replaced(old, new, count=1):
    """Return a function that replaces a pattern in an assertion; it must be there."""

    def alter(xml):
        assert re.search(old, xml)
        return re.sub(old, lambda match: match.expand(new), xml, count=count)

    return alter


def shifted(names, **by):
    """Return a function that moves the times of these names."""

    def move(match):
        before = datetime.datetime.strptime(match[2], TIME_FORMAT)
        moved = before + datetime.timedelta(**by)
        return f'{match[1]}="{moved.strftime(TIME_FORMAT)}"'

    return lambda xml: re.sub(rf'\b({names})="([^"]*)"', move, xml)


def signed(alter, **more):
    """An attack by whoever has the right key, or an identity provider that is careless."""
    return lambda provider, _: provider.altered(alter, 'alice', 'shop', **more)


def after(alter):
    """An attack on an assertion that was signed."""
    return lambda provider, _: alter(provider.assertion('alice', 'shop'))


def parts(xml):
    """Return the signature of an assertion, and a forged assertion without one.

    The forged assertion says that mallory is an operator.
    """
    found = re.search(r'<(\w+):Signature\b.*</\1:Signature>', xml, re.DOTALL)
    forged = unsigned(xml)
    forged = forged.replace('>alice<', '>mallory<')
    forged = forged.replace('>shop<', '>operators<')
    return found[0], forged


def with_child(xml, child):
    """Put a child after the issuer of an assertion."""
    return re.sub(r'(</\w+:Issuer>)', lambda match: match[1] + child, xml, count=1)


def another_id(xml):
    return re.sub(r'\bID="[^"]*"', 'ID="id-evil"', xml, count=1)


def in_the_signature(xml):
    """The forged assertion carries the signed one within its signature."""
    signature, forged = parts(xml)
    prefix = re.match(r'<(\w+):', signature)[1]
    within = re.sub(
        r'(</\w+:Signature>)$', rf'<{prefix}:Object>{{}}</{prefix}:Object>\1', signature
    )
    return with_child(another_id(forged), within.replace('{}', unsigned(xml)))


def in_the_forged(xml, rename=another_id):
    """The forged assertion holds the signed one, and has taken its signature."""
    signature, forged = parts(xml)
    end = re.search(r'</\w+:Assertion>$', forged)
    return with_child(rename(forged[: end.start()]) + unsigned(xml) + end[0], signature)


def around_the_whole(xml):
    """The forged assertion holds the signed one, signature and all."""
    end = re.search(r'</\w+:Assertion>$', xml)
    return another_id(parts(xml)[1][: -len(end[0])]) + xml + end[0]


def beside(xml):
    """A forged and a signed assertion in one response."""
    namespace = 'urn:oasis:names:tc:SAML:2.0:protocol'
    forged = another_id(parts(xml)[1])
    return f'<p:Response xmlns:p="{namespace}">{forged}{xml}</p:Response>'


def before_the_signed(xml):
    """The signed assertion gets a forged one as its first child."""
    return re.sub(r'^<[^>]*>', lambda match: match[0] + another_id(parts(xml)[1]), xml)


def something_else(provider, _):
    """A valid signature of the same key, on another element.

    The identity provider once signed that element.
    """
    name = 'urn:oasis:names:tc:SAML:2.0:assertion'
    advice = f'<a:Advice xmlns:a="{name}" ID="id-advice"><a:Issuer>x</a:Issuer></a:Advice>'
    other = provider.sign(advice, f'{name}:Advice')
    signature, advice = parts(other)
    forged = parts(provider.assertion('alice', 'shop'))[1]
    return with_child(forged, signature + advice)


def by_a_stranger(_, stranger):
    return stranger.assertion('alice', 'operators')


def without_algorithm(_, stranger):
    """All is right but for the signature, which claims that it needs none."""
    return replaced(METHOD, r'\1none')(by_a_stranger(None, stranger))


def by_hmac(provider, stranger):
    """A valid signature with a key that is public: the certificate."""
    xml = replaced(METHOD, rf'\1{HMAC}')(by_a_stranger(provider, stranger))
    return stranger.sign_by_hmac(xml, provider.certificate)


def stranger_and_certificate(provider, stranger):
    """Signed by another key, and said to be by ours."""
    return provider.altered(lambda xml: xml, 'alice', 'operators', key=stranger.key)


def doctype(text):
    return after(lambda xml: f'<!DOCTYPE a [{text}]>{xml}')


def utf_16(provider, _):
    """A document type that is visible to one parser and not to another."""
    xml = (
        '<?xml version="1.0" encoding="utf-16"?>'
        '<!DOCTYPE a [<!ENTITY x "y">]>' + provider.assertion('alice', 'shop')
    )
    return encoded(xml.encode('utf-16-le')).encode()


def deflated(data):
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return base64.urlsafe_b64encode(deflater.compress(data) + deflater.flush())


SECOND = (
    r'<\1:Attribute Name="groups">'
    r'<\1:AttributeValue>operators</\1:AttributeValue>'
    r'</\1:Attribute>\g<0>'
)
BOMB = '<!ENTITY a "boom">' + ''.join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip('abcdefgh', 'bcdefghi')
)
RESTRICTION = r'<(\w+):AudienceRestriction>.*</\1:AudienceRestriction>'
COMMENT = 'a document type, a comment, CDATA or a processing instruction in it'
BROKEN = 'the signature does not hold'

ATTACKS = {
    'altered': (after(replaced('>shop<', '>operators<')), BROKEN),
    'altered times': (after(shifted('NotOnOrAfter', hours=1)), BROKEN),
    'altered issuer': (after(replaced('idp.example', 'ipd.example')), BROKEN),
    'unsigned': (after(unsigned), 'not signed'),
    'signature emptied': (after(replaced(r'(SignatureValue>)[^<]*<', r'\1<')), BROKEN),
    'by another key': (by_a_stranger, BROKEN),
    'by another key, our certificate': (stranger_and_certificate, BROKEN),
    'SHA-1': (lambda provider, _: provider.assertion('alice', 'shop', algorithms=SHA1), 'SHA1'),
    'SHA-1 as signature': (
        lambda provider, _: provider.assertion('alice', 'shop', algorithms=SHA1_SIGNATURE),
        'SHA1',
    ),
    'SHA-1 as digest': (
        lambda provider, _: provider.assertion('alice', 'shop', algorithms=SHA1_DIGEST),
        'SHA1',
    ),
    'no algorithm': (without_algorithm, 'Unrecognized SignatureMethod'),
    'HMAC with the certificate as key': (by_hmac, 'HMAC_SHA256 forbidden'),
    'two signatures': (after(lambda xml: with_child(xml, parts(xml)[0])), '2 signatures'),
    'wrapped in the signature': (after(in_the_signature), 'an assertion within the assertion'),
    'wrapped in the forged one': (after(in_the_forged), 'an assertion within the assertion'),
    'wrapped with the same ID': (
        after(lambda xml: in_the_forged(xml, str)),
        'an assertion within the assertion',
    ),
    'wrapped with its signature': (after(around_the_whole), 'an assertion within the assertion'),
    'wrapped in a response': (after(beside), 'no SAML 2.0 assertion'),
    'a forged one before it': (after(before_the_signed), 'an assertion within the assertion'),
    'signature of something else': (something_else, 'the signature covers something else'),
    'signature deeper': (
        after(lambda xml: with_child(another_id(parts(xml)[1]), f'<e>{parts(xml)[0]}</e>')),
        BROKEN,
    ),
    'expired': (signed(shifted('NotOnOrAfter|NotBefore', minutes=-6)), 'expired at'),
    'expired by its conditions': (
        signed(replaced(r'(Conditions [^>]*NotOnOrAfter=")[^"]*', r'\g<1>2020-01-01T00:00:00Z')),
        'expired at 2020-01-01T00:00:00Z',
    ),
    'expired for the bearer': (
        signed(replaced(r'(ConfirmationData NotOnOrAfter=")[^"]*', r'\g<1>2020-01-01T00:00:00Z')),
        'expired at 2020-01-01T00:00:00Z',
    ),
    'not yet valid': (signed(shifted('NotBefore', minutes=2)), 'not valid before'),
    'issued in the future': (signed(shifted('IssueInstant', minutes=2)), 'issued in the future'),
    'valid for days': (signed(shifted('NotOnOrAfter', days=2)), 'more than 86400 s from now'),
    'without an end': (
        signed(replaced(r' NotOnOrAfter="[^"]*"', '', 2)),
        'NotOnOrAfter is missing',
    ),
    'another time zone': (
        signed(replaced(r'(NotOnOrAfter="[^"]*)Z', r'\1+01:00', 2)),
        'is no time in UTC',
    ),
    'wrong issuer': (
        lambda provider, _: provider.assertion('alice', 'shop', issuer=FAR),
        'wrong issuer',
    ),
    'wrong audience': (
        lambda provider, _: provider.assertion('alice', 'shop', audience=FAR),
        'wrong audience',
    ),
    'no audience': (signed(replaced(RESTRICTION, '')), 'wrong audience []'),
    'a second audience': (
        signed(
            replaced(
                RESTRICTION,
                rf'\g<0><\1:AudienceRestriction><\1:Audience>{FAR}</\1:Audience>'
                r'</\1:AudienceRestriction>',
            )
        ),
        'wrong audience',
    ),
    'wrong recipient': (
        lambda provider, _: provider.assertion('alice', 'shop', recipient=FAR),
        'wrong recipient',
    ),
    'two confirmations': (
        signed(replaced(r'<(\w+):SubjectConfirmation .*</\1:SubjectConfirmation>', r'\g<0>\g<0>')),
        '2 bearer confirmations instead of one',
    ),
    'not for the bearer': (
        signed(replaced('cm:bearer', 'cm:holder-of-key')),
        '0 bearer confirmations',
    ),
    'unknown condition': (
        signed(replaced(r'<(\w+):AudienceRestriction>', r'<\1:Condition/>\g<0>')),
        'a condition of a kind',
    ),
    'comment in the NameID': (after(replaced('>alice<', '>alice<!-- -->.evil<')), COMMENT),
    'CDATA in the NameID': (after(replaced('>alice<', '><![CDATA[alice]]><')), COMMENT),
    'instruction in the NameID': (after(replaced('>alice<', '>alice<?x y?>.evil<')), COMMENT),
    'element in the NameID': (
        signed(replaced('>alice<', '>alice<x/>.evil<')),
        'an element in NameID',
    ),
    'line feed in the NameID': (
        signed(replaced('>alice<', '>alice&#10;root<')),
        'printable characters',
    ),
    'empty NameID': (signed(replaced('>alice<', '><')), 'printable characters'),
    'blank NameID': (signed(replaced('>alice<', '>  <')), 'printable characters'),
    'endless NameID': (signed(replaced('>alice<', f'>{"a" * 201}<')), 'printable characters'),
    'two NameIDs': (
        signed(replaced(r'<(\w+):NameID>', r'<\1:NameID>root</\1:NameID>\g<0>')),
        '2 elements',
    ),
    'attribute twice': (
        signed(replaced(r'<(\w+):Attribute ', SECOND)),
        "the attribute 'groups' comes twice",
    ),
    'external entity': (doctype('<!ENTITY x SYSTEM "file:///etc/passwd">'), COMMENT),
    'entity bomb': (doctype(BOMB), COMMENT),
    'entities unseen in UTF-16': (utf_16, 'not well-formed'),
    'inflate bomb': (lambda *_: deflated(bytes(50_000_000)), 'more than 65536 bytes when inflated'),
    'oversized': (signed(replaced('>shop<', f'>{"x" * 66_000}<')), 'too large'),
    'deep': (lambda *_: '<a>' * 15_000, 'not well-formed'),
    'half': (after(lambda xml: xml[:2000]), 'not well-formed'),
    'no XML': (lambda *_: b'____', 'neither XML nor deflated XML'),
    'no base64url': (lambda *_: b'<xml>', 'no base64url'),
    'nothing': (lambda *_: b'', 'no base64url'),
    'other XML': (lambda *_: '<a/>', 'no SAML 2.0 assertion'),
    'SAML 1.1': (after(replaced('Version="2.0"', 'Version="1.1"')), 'no SAML 2.0 assertion'),
}


def sent(name, provider, stranger):
    """Return an attack as it is sent, and the words of its refusal."""
    make, words = ATTACKS[name]
    made = make(provider, stranger)
    if isinstance(made, bytes):
        return made.decode(), words
    return encoded(made), words
