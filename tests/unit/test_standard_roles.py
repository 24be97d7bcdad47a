"""Standard roles: what claims grant, and how a user differs from its role."""

from siamese import ROOT
from siamese.access.standard_roles import (
    ROLES,
    deviations_of,
    different_patterns,
    grants_of,
    scopes_of,
    unexpected_tags,
)
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


def refusals_of(role):
    """Return the results of a user that has exactly the permissions of a role."""
    return {
        operation: '' if operation in ROLES[role].operations else 'ACCESS_REFUSED'
        for operation in ROLES['administrator'].operations
    }


def test_a_user_like_its_role_has_no_findings():
    for role in ROLES:
        assert deviations_of(role, refusals_of(role)) == []
        assert different_patterns(role, ROLES[role].patterns) == []
        assert unexpected_tags(role, ROLES[role].tags) == []


def test_an_unexpected_and_a_missing_operation_are_named():
    results = {**refusals_of('publisher'), 'publish': 'ACCESS_REFUSED', 'get': ''}
    assert sorted(deviations_of('publisher', results)) == [
        'publisher: missing permission: publish is refused (ACCESS_REFUSED)',
        'publisher: unexpected permission: get is allowed',
    ]


def test_without_a_connection_nothing_else_is_named():
    results = dict.fromkeys(['connect', 'publish'], 'wrong password')
    assert deviations_of('publisher', results) == [
        'publisher: missing permission: connect is refused (wrong password)'
    ]


def test_wider_and_narrower_patterns_are_named():
    assert different_patterns('subscriber', ['', '.*', '^blocks$']) == [
        "subscriber: unexpected permission: the pattern '.*' for write, expected '^$'",
        "subscriber: missing permission: the pattern '^blocks$' for read is narrower than '.*'",
    ]


def test_a_tag_is_unexpected_unless_the_role_implies_it():
    assert unexpected_tags('monitoring', ['monitoring', 'management']) == []
    assert unexpected_tags('monitoring', ['monitoring', 'policymaker']) == [
        "monitoring: unexpected permission: the tag 'policymaker'"
    ]
