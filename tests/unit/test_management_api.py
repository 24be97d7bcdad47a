"""management_api.py: where the API of a broker is."""

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
        ('amqp://h', 'https://proxy/rabbit/api/', 'https://proxy:15671/rabbit'),
        ('amqp://h', 'http://h/api', 'http://h:15672'),
        ('amqp://h', 'http://h:80/#/queues', 'http://h:80'),
    ],
)
def test_where_the_api_is(amqp_url, url, base):
    assert management_api.api(common.endpoints(amqp_url, 'test')[0], url).base == base


@pytest.mark.parametrize(
    'url, complaint',
    [
        ('http://guest:secret@h?cacertfile=x', 'these need https://'),
        ('https://guest:secret@h?unknown=x', 'it may have cacertfile, '),
        ('https://guest:secret@h?cacertfile=/none', 'bad management URL: cannot read cacertfile'),
        ('ftp://guest:secret@h', 'expected http://user'),
        ('http://guest:secret@h:x', 'expected http://user'),
    ],
)
def test_a_bad_url_is_named_without_its_password(url, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        management_api.api(common.endpoints('amqp://h', 'test')[0], url)
    assert 'secret' not in str(error.value)
