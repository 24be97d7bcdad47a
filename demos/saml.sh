#!/bin/sh
# SAML claims in one terminal: an identity provider (that of the tests, pysaml2),
# token_server.py, a RabbitMQ that takes its tokens, and scripts as alice of group
# shop, bob of group warehouse and mona of group watchers. Nothing is left behind.
set -eu
cd "$(dirname "$0")/.."
# What it begins ends with it, however it ends.
[ -n "${SUPERVISED_FOLDER-}" ] || exec python3 -m siamese.testbed.supervisor demos/saml.sh "$@"
folder=$SUPERVISED_FOLDER
trap 'exit 130' INT TERM

# begin NAME COMMAND...: start a command in the background, and wait for its first line.
begin() {
    name=$1
    shift
    "$@" >"$folder/$name" 2>"$folder/$name.log" &
    until [ -s "$folder/$name" ]; do
        if ! kill -0 $! 2>/dev/null; then
            cat "$folder/$name.log" >&2
            exit 3
        fi
        sleep 0.1
    done
}

# assertion NAME GROUP...: an assertion of the identity provider, as signed XML.
assertion() {
    python -W ignore tests/support/identity.py "$folder" "$@"
}

# token: the token for the assertion on stdin, or why it is refused (RFC 7522).
token() {
    python -c '
import base64, json, sys, urllib.error, urllib.parse, urllib.request

url = sys.argv[1] + "/token"
xml = sys.stdin.buffer.read().strip()
form = {
    "grant_type": "urn:ietf:params:oauth:grant-type:saml2-bearer",
    "assertion": base64.urlsafe_b64encode(xml).rstrip(b"="),
}
body = urllib.parse.urlencode(form).encode()
try:
    with urllib.request.urlopen(url, body) as answer:
        print(json.load(answer)["access_token"])
except urllib.error.HTTPError as error:
    sys.exit("no token: " + json.load(error)["error_description"])' "$url" 2>&1 | without_ids
}

# payload TOKEN: the payload of a token, which is signed and not encrypted.
payload() {
    echo "$1" | python -c '
import base64, json

encoded = input().split(".")[1]
payload = json.loads(base64.urlsafe_b64decode(encoded + "=="))
print(json.dumps(payload, indent=2))'
}

without_ids() {
    sed 's/#id-[A-Za-z0-9]*/#id-…/'
}

# as TOKEN COMMAND...: run a script with a token in place of a password.
as() {
    token=$1
    shift
    echo "+ $*"
    AMQP_URL=amqp://:$token@${AMQP_URL#*@} \
        MANAGEMENT_URL=${MANAGEMENT_URL%//*}//${MANAGEMENT_URL#*@} \
        "$@" 2>&1 |
        grep -v ' ready: ' || true
}

python -W ignore tests/support/identity.py "$folder"
key=$(./token_server.py --new-key --keys "$folder/keys")
begin tokens ./token_server.py "$folder/claims.json" --keys "$folder/keys" --port 0
begin broker ./broker.py --management --oauth2 "$key"
url=$(sed 's|/token .*||' "$folder/tokens")
. "$folder/broker"
# As guest, who may declare the queues.
./validate.py --idle 0.1 --quiet >/dev/null 2>&1 || true

alice=$(assertion alice shop | token)
bob=$(assertion bob warehouse | token)
mona=$(assertion mona watchers | token)
echo 'the token of alice'
payload "$alice"
as "$alice" ./producer.py --name alice --count 2 --quiet
as "$bob" ./producer.py --name bob --count 2 --quiet
as "$bob" ./validate.py --name bob --count 2 --quiet
as "$mona" ./roles.py --name mona --check
echo 'eve makes herself an operator in her assertion'
assertion eve visitors | sed s/visitors/operators/ | token || true
echo 'and sends one of mona a second time'
assertion mona watchers >"$folder/mona"
token <"$folder/mona" >/dev/null
token <"$folder/mona" || true
echo 'the log of token_server.py'
cut -d ' ' -f 2- "$folder/tokens.log" | without_ids
