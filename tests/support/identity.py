"""An identity provider for the tests and demos/saml.sh.

It is pysaml2, which signs with xmlsec1, and shares no code with saml.py. As a
command it makes its key and claims.json in a folder, or prints a signed
assertion of a user in some groups:

    python -W ignore tests/support/identity.py FOLDER
    python -W ignore tests/support/identity.py FOLDER alice shop warehouse
"""

import base64
import datetime
import json
import logging
import os
import re
import subprocess
import sys

import saml2.saml
import saml2.sigver
import saml2.xmldsig
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from saml2.config import IdPConfig
from saml2.server import Server

ISSUER = 'https://idp.example/saml'
AUDIENCE = 'https://tokens.example'
RECIPIENT = 'https://tokens.example/token'
ROLES = {
    'operators': 'administrator',
    'watchers': 'monitoring',
    'shop': 'publisher',
    'warehouse': 'subscriber',
}
ASSERTION = 'urn:oasis:names:tc:SAML:2.0:assertion:Assertion'
SHA256 = {
    'sign_alg': saml2.xmldsig.SIG_RSA_SHA256,
    'digest_alg': saml2.xmldsig.DIGEST_SHA256,
}
SHA1 = {
    'sign_alg': saml2.xmldsig.SIG_RSA_SHA1,
    'digest_alg': saml2.xmldsig.DIGEST_SHA1,
}
POLICY = {
    'lifetime': {'minutes': 5},
    'attribute_restrictions': None,
    'fail_on_missing_requested': False,
    'name_form': 'urn:oasis:names:tc:SAML:2.0:attrname-format:basic',
}
logging.getLogger('saml2').setLevel(logging.CRITICAL)


def make(folder):
    """Make a key, its certificate, and a claims.json that trusts it."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    certificate = certificate_of(key)
    flags = os.O_WRONLY | os.O_CREAT
    descriptor = os.open(f'{folder}/idp.key', flags, 0o600)
    with open(descriptor, 'wb') as file:
        file.write(private)
    with open(f'{folder}/idp.pem', 'wb') as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    with open(f'{folder}/claims.json', 'w') as file:
        json.dump(policy(), file)


def certificate_of(key):
    """Return a self-signed certificate of a key, for one day."""
    name = x509.Name.from_rfc4514_string('CN=idp.example')
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def policy():
    """Return what claims.json says of this identity provider."""
    roles = [{'attribute': 'groups', 'value': group, 'role': role} for group, role in ROLES.items()]
    return {
        'issuer': ISSUER,
        'certificates': 'idp.pem',
        'audience': AUDIENCE,
        'recipient': RECIPIENT,
        'roles': roles,
    }


class Provider:
    """The identity provider of a folder that make() filled."""

    def __init__(self, folder):
        self.folder = folder
        self.key = f'{folder}/idp.key'
        self.certificate = f'{folder}/idp.pem'
        config = {
            'entityid': ISSUER,
            'key_file': self.key,
            'cert_file': self.certificate,
            'service': {'idp': {'policy': {'default': POLICY}}},
        }
        self.server = Server(config=IdPConfig().load(config))

    def assertion(
        self,
        user,
        *groups,
        algorithms=SHA256,
        audience=AUDIENCE,
        recipient=RECIPIENT,
        issuer=None,
    ):
        """Return a signed assertion as text."""
        response = self.server.create_authn_response(
            {'groups': list(groups)},
            None,
            recipient,
            audience,
            name_id=saml2.saml.NameID(text=user),
            issuer=issuer and saml2.saml.Issuer(text=issuer),
            authn={'class_ref': saml2.saml.AUTHN_PASSWORD, 'authn_auth': ISSUER},
            sign_assertion=True,
            **algorithms,
        )
        return assertion_in(str(response))

    def altered(self, alter, *who, key=None, **more):
        """Return an assertion that was altered before it was signed.

        `key` is the file of another key to sign with.
        """
        honest = unsigned(self.assertion(*who, **more))
        return self.sign(alter(honest), ASSERTION, key)

    def sign(self, xml, kind, key=None):
        """Return an element with a signature after its Issuer, as text.

        `kind` is the full name of the element, with a colon.
        """
        identity = re.search(r'\bID="([^"]+)"', xml)[1]
        template = saml2.sigver.pre_signature_part(
            identity,
            self.server.sec.my_cert,
            1,
            **SHA256,
        )
        signature = str(template).split('?>')[-1].strip()
        issuer = re.search(r'.*?</\w+:Issuer>', xml, re.DOTALL)
        signed = self.server.sec.sign_statement(
            issuer[0] + signature + xml[issuer.end() :],
            kind,
            key_file=key or self.key,
            node_id=identity,
        )
        return without_declaration(signed)

    def sign_by_hmac(self, xml, secret):
        """Return an assertion signed anew, as its SignatureMethod says.

        The key is the content of the file `secret`.
        """
        with open(f'{self.folder}/template.xml', 'w') as file:
            file.write(xml)
        done = subprocess.run(
            ['xmlsec1', '--sign', *hmac_key(secret), '--id-attr:ID', ASSERTION, file.name],
            capture_output=True,
            encoding='utf-8',
            check=True,
        )
        return without_declaration(done.stdout)


def hmac_key(secret):
    """Return the flags for a key that the document does not name: xmlsec1 1.3 has others."""
    told = subprocess.run(['xmlsec1', '--help-sign'], capture_output=True, encoding='utf-8')
    if '--hmac-key' in told.stdout + told.stderr:
        return ['--lax-key-search', '--hmac-key', secret]
    return ['--hmackey', secret]


def assertion_in(response):
    """Return the assertion in a response as a document of its own."""
    found = re.search(
        r'<(\w+):Assertion\b.*</\1:Assertion>',
        response,
        re.DOTALL,
    )
    assertion = found[0]
    # It may use prefixes that the response around it declares.
    declarations = dict.fromkeys(re.findall(r'xmlns:\w+="[^"]*"', response))
    missing = [name for name in declarations if name not in assertion]
    return re.sub(
        r'^<\w+:Assertion',
        lambda match: ' '.join([match[0], *missing]),
        assertion,
    )


def without_declaration(xml):
    return re.sub(r'^<\?xml[^>]*\?>\s*', '', xml).strip()


def unsigned(xml):
    """Return an assertion without its signature."""
    return re.sub(r'<(\w+):Signature\b.*</\1:Signature>', '', xml, flags=re.DOTALL)


def encoded(xml):
    """Return an assertion as RFC 7522 wants it."""
    if isinstance(xml, str):
        xml = xml.encode()
    return base64.urlsafe_b64encode(xml).decode().rstrip('=')


if __name__ == '__main__':
    folder, *who = sys.argv[1:]
    if who:
        print(Provider(folder).assertion(*who))
    else:
        make(folder)
