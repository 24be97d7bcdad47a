"""saml.py: input that is not a signed assertion is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese.access import saml


@given(st.binary(max_size=300), st.text(max_size=300))
def test_rubbish_is_refused(data, text):
    for xml in data, b'<' + data, f'<a>{text}</a>'.encode(errors='replace'):
        with pytest.raises(saml.AssertionRefused):
            saml.verify(xml, saml.Trust(['none'], '', '', ''), 0)
    with pytest.raises(saml.AssertionRefused):
        saml.verify(saml.decode(text), saml.Trust(['none'], '', '', ''), 0)
