"""An identity provider for tests and claims.sh: pysaml2, which signs with xmlsec1. No code is shared with saml.py.

As a command it makes its key and CLAIMS.json in a folder, or prints a signed assertion of a user in some groups:

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

ISSUER, AUDIENCE, RECIPIENT = (
    'https://idp.example/saml',
    'https://tokens.example',
    'https://tokens.example/token',
)
ROLES = {
    'operators': 'administrator',
    'watchers': 'monitoring',
    'shop': 'publisher',
    'warehouse': 'subscriber',
}
ASSERTION = 'urn:oasis:names:tc:SAML:2.0:assertion:Assertion'
SHA256 = {'sign_alg': saml2.xmldsig.SIG_RSA_SHA256, 'digest_alg': saml2.xmldsig.DIGEST_SHA256}
SHA1 = {'sign_alg': saml2.xmldsig.SIG_RSA_SHA1, 'digest_alg': saml2.xmldsig.DIGEST_SHA1}
logging.getLogger('saml2').setLevel(logging.CRITICAL)


def make(folder):
    """Make a key with its certificate, and the CLAIMS.json of a token server that trusts it."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name.from_rfc4514_string('CN=idp.example')
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(1))
        .sign(key, hashes.SHA256())
    )
    with open(os.open(f'{folder}/idp.key', os.O_WRONLY | os.O_CREAT, 0o600), 'wb') as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
    with open(f'{folder}/idp.pem', 'wb') as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    with open(f'{folder}/claims.json', 'w') as file:
        roles = [
            {'attribute': 'groups', 'value': group, 'role': role} for group, role in ROLES.items()
        ]
        json.dump(
            {
                'issuer': ISSUER,
                'certificates': 'idp.pem',
                'audience': AUDIENCE,
                'recipient': RECIPIENT,
                'roles': roles,
            },
            file,
        )


class Provider:
    """The identity provider of a folder that make() filled."""

    def __init__(self, folder):
        self.folder, self.key, self.certificate = folder, f'{folder}/idp.key', f'{folder}/idp.pem'
        self.server = Server(
            config=IdPConfig().load(
                {
                    'entityid': ISSUER,
                    'key_file': self.key,
                    'cert_file': self.certificate,
                    'service': {
                        'idp': {
                            'policy': {
                                'default': {
                                    'lifetime': {'minutes': 5},
                                    'attribute_restrictions': None,
                                    'fail_on_missing_requested': False,
                                    'name_form': 'urn:oasis:names:tc:SAML:2.0:attrname-format:basic',
                                }
                            }
                        }
                    },
                }
            )
        )

    def assertion(
        self, user, *groups, algorithms=SHA256, audience=AUDIENCE, recipient=RECIPIENT, issuer=None
    ):
        """Return a signed assertion as text."""
        response = str(
            self.server.create_authn_response(
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
        )
        # It may use prefixes that the response around it declares.
        assertion = re.search(r'<(\w+):Assertion\b.*</\1:Assertion>', response, re.DOTALL)[0]
        declared = [
            name
            for name in dict.fromkeys(re.findall(r'xmlns:\w+="[^"]*"', response))
            if name not in assertion
        ]
        return re.sub(r'^<\w+:Assertion', lambda match: ' '.join([match[0], *declared]), assertion)

    def altered(self, alter, *who, key=None, **more):
        """Return an assertion that was altered before it was signed; with another key if its file is given."""
        return self.sign(alter(unsigned(self.assertion(*who, **more))), ASSERTION, key)

    def sign(self, xml, kind, key=None):
        """Return an element of a kind (its full name, with a colon) with a signature after its Issuer, as text."""
        identity = re.search(r'\bID="([^"]+)"', xml)[1]
        template = saml2.sigver.pre_signature_part(identity, self.server.sec.my_cert, 1, **SHA256)
        place = re.search(r'.*?</\w+:Issuer>', xml, re.DOTALL)
        xml = place[0] + str(template).split('?>')[-1].strip() + xml[place.end() :]
        signed = self.server.sec.sign_statement(
            xml, kind, key_file=key or self.key, node_id=identity
        )
        return without_declaration(signed)

    def sign_by_hmac(self, xml, secret):
        """Return an assertion signed anew, as its SignatureMethod says; the key is what is in the file `secret`."""
        with open(f'{self.folder}/template.xml', 'w') as file:
            file.write(xml)
        done = subprocess.run(
            ['xmlsec1', '--sign', '--hmackey', secret, '--id-attr:ID', ASSERTION, file.name],
            capture_output=True,
            encoding='utf-8',
            check=True,
        )
        return without_declaration(done.stdout)


def without_declaration(xml):
    return re.sub(r'^<\?xml[^>]*\?>\s*', '', xml).strip()


def unsigned(xml):
    """Return an assertion without its signature."""
    return re.sub(r'<(\w+):Signature\b.*</\1:Signature>', '', xml, flags=re.DOTALL)


def encoded(xml):
    """Return an assertion as RFC 7522 wants it."""
    return (
        base64.urlsafe_b64encode(xml.encode() if isinstance(xml, str) else xml).decode().rstrip('=')
    )


if __name__ == '__main__':
    folder, *who = sys.argv[1:]
    if who:
        print(Provider(folder).assertion(*who))
    else:
        make(folder)
