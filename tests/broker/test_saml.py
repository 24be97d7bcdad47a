"""saml.py: what pysaml2 and xmlsec1 sign is accepted, and nothing else."""

import base64
import re
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import identity
from support.attacks import ATTACKS, replaced, sent, shifted

from siamese.access import saml, token_issuer


@pytest.fixture(scope='module')
def provider(tmp_path_factory):
    folder = tmp_path_factory.mktemp('provider')
    identity.make(folder)
    return identity.Provider(folder)


@pytest.fixture(scope='module')
def stranger(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stranger')
    identity.make(folder)
    return identity.Provider(folder)


@pytest.fixture(scope='module')
def trust(provider):
    return token_issuer.read_policy(provider.key.replace('idp.key', 'claims.json')).trust


@pytest.fixture(scope='module')
def honest(provider):
    return provider.assertion('alice', 'shop', 'warehouse').encode()


def test_an_assertion_of_pysaml2_is_understood(honest, trust):
    now = time.time()
    found = saml.verify(saml.decode(identity.encoded(honest)), trust, now)
    assert found.subject == 'alice'
    assert found.attributes == {'groups': ['shop', 'warehouse']}
    assert f'ID="{found.id}"'.encode() in honest
    assert 200 < found.expires - now <= 300


def test_it_may_be_deflated_and_padded(honest, trust):
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    text = base64.urlsafe_b64encode(deflater.compress(honest) + deflater.flush()).decode()
    assert len(text) < 3700, 'that is what fits where passwords do'
    assert saml.verify(saml.decode(text), trust, time.time()).subject == 'alice'


def test_what_was_altered_and_signed_again_is_accepted(provider, trust):
    """Else the attacks that do so could be refused for another reason."""
    again = provider.altered(lambda xml: xml.replace('>alice<', '>bob<'), 'alice', 'shop')
    assert saml.verify(again.encode(), trust, time.time()).subject == 'bob'


def test_clocks_may_differ_a_little(provider, trust):
    for by in 20, -20:
        shift = shifted('IssueInstant|NotBefore', seconds=by)
        assert saml.verify(provider.altered(shift, 'alice', 'shop').encode(), trust, time.time())
    old = provider.altered(shifted('NotOnOrAfter|NotBefore', seconds=-320), 'alice', 'shop')
    assert saml.verify(old.encode(), trust, time.time())


@pytest.mark.parametrize('name', ['Conditions', 'SubjectConfirmationData'])
def test_the_shorter_of_its_two_ends_counts(provider, trust, name):
    alter = shifted(rf'{name} [^>]*NotOnOrAfter', seconds=-200)
    altered = provider.altered(alter, 'alice', 'shop').encode()
    found = saml.verify(altered, trust, time.time())
    now = time.time()
    assert 0 < found.expires - now <= 100


def test_values_with_elements_in_them_are_left_out(provider, trust):
    alter = replaced('>shop<', '><x/>shop<')
    found = saml.verify(provider.altered(alter, 'alice', 'shop').encode(), trust, time.time())
    assert found.attributes == {'groups': []}


def test_several_certificates_while_the_provider_changes_its_key(honest, provider, stranger, trust):
    theirs = token_issuer.read_policy(
        stranger.key.replace('idp.key', 'claims.json')
    ).trust.certificates
    both = trust._replace(certificates=[*theirs, *trust.certificates])
    assert saml.verify(honest, both, time.time()).subject == 'alice'
    assert (
        saml.verify(stranger.assertion('mallory').encode(), both, time.time()).subject == 'mallory'
    )


@pytest.mark.parametrize('name', ATTACKS)
def test_refused(name, provider, stranger, trust):
    text, words = sent(name, provider, stranger)
    with pytest.raises(saml.AssertionRefused) as refused:
        saml.verify(saml.decode(text), trust, time.time())
    why = str(refused.value)
    assert words in why and why.isprintable() and len(why) < 400


@given(where=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_no_byte_can_be_changed_to_another_meaning(honest, trust, where, byte):
    now = time.time()
    where %= len(honest)
    changed = honest[:where] + bytes([byte]) + honest[where + 1 :]
    try:
        found = saml.verify(changed, trust, now)
    except saml.AssertionRefused:
        return
    assert found == saml.verify(honest, trust, now)


def test_the_size_limit_is_far_from_what_providers_send(honest):
    assert len(honest) * 6 < saml.MAX_XML_BYTES
    assert re.match(rb'<\w+:Assertion', honest)
