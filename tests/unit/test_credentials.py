"""credentials.py: what it reads in a token, and in a password that is none."""

import base64
import json

import jwt
from hypothesis import given
from hypothesis import strategies as st

from siamese.messaging import credentials

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), JSON))
def test_claims_are_read_as_they_were_written(claims):
    assert credentials.claims(jwt.encode({'x': claims}, 'k' * 32, 'HS256'))['x'] == claims


def token_that_expires(exp):
    """Return a token whose claim `exp` may be anything."""
    payload = base64.urlsafe_b64encode(json.dumps({'exp': exp}).encode()).decode()
    return f'e30.{payload.rstrip("=")}.x'


@given(
    st.text()
    | st.lists(st.text(), min_size=3, max_size=3).map('.'.join)
    | JSON.map(token_that_expires)
)
def test_any_password_has_an_expiry(password):
    assert isinstance(credentials.expiry(password), float)


def test_the_token_of_the_rfc():
    """RFC 7519, section 3.1."""
    token = (
        'eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9le'
        'GFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk'
    )
    assert credentials.expiry(token) == 1300819380
    assert credentials.claims(token)['iss'] == 'joe'
