"""Standard roles: what claims grant, and the scopes that this comes to."""

from siamese import ROOT
from siamese.access.standard_roles import grants_of, scopes_of
from siamese.access.token_issuer import read_policy


def example_grants(attributes):
    policy = read_policy(ROOT / 'examples/saml/claims.json')
    return grants_of(attributes, policy.grant_map)


def test_a_role_can_be_for_one_virtual_host():
    grants = example_grants({'groups': ['shop', 'warehouse', 'none']})
    assert [grant.role for grant in grants] == ['publisher', 'subscriber']
    assert scopes_of(grants) == ['siamese.write:%2F/*', 'siamese.read:%2F/*']


def test_a_role_is_for_all_virtual_hosts_if_none_is_named():
    grants = example_grants({'groups': ['mq-operators']})
    assert scopes_of(grants) == [
        'siamese.tag:administrator',
        'siamese.configure:*/*',
        'siamese.write:*/*',
        'siamese.read:*/*',
    ]


def test_a_value_of_another_attribute_grants_nothing():
    assert example_grants({'other': ['shop']}) == []
    assert scopes_of([]) == []
