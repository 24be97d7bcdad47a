"""saml.py: input that is not a signed assertion is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese.access import saml, token_issuer

NOW = 1_795_521_600


@given(st.binary(max_size=300), st.text(max_size=300))
def test_rubbish_is_refused(data, text):
    for xml in data, b'<' + data, f'<a>{text}</a>'.encode(errors='replace'):
        with pytest.raises(saml.AssertionRefused):
            saml.verify(xml, saml.Trust(['none'], '', '', ''), 0)
    with pytest.raises(saml.AssertionRefused):
        saml.verify(saml.decode(text), saml.Trust(['none'], '', '', ''), 0)


def test_an_assertion_is_remembered_though_the_clock_was_ahead_meanwhile(tmp_path):
    first = saml.Claims('first', 'alice', {}, expires=NOW + 60)
    second = first._replace(id='second', expires=NOW + 7260)
    token_issuer.remember_use(str(tmp_path), first, NOW)
    token_issuer.remember_use(str(tmp_path), second, NOW + 7200)
    with pytest.raises(saml.AssertionRefused, match='used before'):
        token_issuer.remember_use(str(tmp_path), first, NOW)
