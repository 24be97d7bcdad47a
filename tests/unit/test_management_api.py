"""management_api.py: where the API of a broker is."""

import urllib.request

import pytest

import common
from siamese.messaging import management_api


@pytest.mark.parametrize(
    'amqp_url, url, base',
    [
        ('amqp://a:b@host/v', None, 'http://host:15672'),
        ('amqps://a:b@host:1/v', None, 'https://host:15671'),
        ('amqp://a:b@[::1]:1', None, 'http://[::1]:15672'),
        ('amqps://h', 'http://[::1]:80', 'http://[::1]:80'),
        ('amqps://a:b@x.rmq.cloudamqp.com/v', None, 'https://x.rmq.cloudamqp.com:443'),
        ('amqp://a:b@x.rmq.cloudamqp.com/v', None, 'https://x.rmq.cloudamqp.com:443'),
        ('amqp://h', 'https://x.rmq.cloudamqp.com', 'https://x.rmq.cloudamqp.com:443'),
        ('amqp://h', 'https://proxy/rabbit/', 'https://proxy:15671/rabbit'),
    ],
)
def test_where_the_api_is(monkeypatch, amqp_url, url, base):
    asked = []

    def open_it(_self, request, timeout):
        asked.append(request.full_url)
        raise OSError('no network')

    monkeypatch.setattr(urllib.request.OpenerDirector, 'open', open_it)
    with pytest.raises(management_api.Refused, match='no network'):
        management_api.api(common.endpoints(amqp_url, 'test')[0], url).get('overview')
    assert asked == [f'{base}/api/overview']
