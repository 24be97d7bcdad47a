#!/bin/sh
# Prepare a fresh machine, saying what it does before it does it.
#
#   ./setup.sh venv requirements.txt   a virtual environment .venv with these requirements
#   ./setup.sh broker                  a RabbitMQ for broker.py to start, if there is none
#
# A proxy for pip and apt-get is taken from http_proxy and https_proxy.
set -eu
cd "$(dirname "$0")"

say() { echo "setup: $*" >&2; }

# apt_install PACKAGE: with root's rights, if we have them or can ask for them.
apt_install() {
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then root=''
    elif command -v sudo >/dev/null; then root=sudo
    else return 1
    fi
    say "installing $1: ${root:+$root }apt-get install $1"
    # Debian would start RabbitMQ as a service that is open to the network. Its way to say no is policy-rc.d.
    $root sh -c '
        policy=/usr/sbin/policy-rc.d
        [ -e $policy ] || { trap "rm -f $policy" EXIT; printf "#!/bin/sh\nexit 101\n" >$policy; chmod +x $policy; }
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$0" >/dev/null
        if [ "$0" = rabbitmq-server ] && [ -d /run/systemd/system ]; then systemctl disable -q rabbitmq-server; fi
    ' "$1"
}

venv() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { say 'Python 3.9 or later is needed'; exit 3; }
    if [ ! -x .venv/bin/pip ]; then
        say 'creating the virtual environment .venv'
        if ! python3 -m venv .venv >/dev/null 2>&1; then
            say 'python3 lacks the module venv, which Debian and Ubuntu keep in the package python3-venv'
            rm -rf .venv
            apt_install python3-venv || { say 'as root: apt-get install python3-venv, then again'; exit 3; }
            python3 -m venv .venv
        fi
    fi
    say "installing $1 into .venv"
    .venv/bin/python -m pip install -q --disable-pip-version-check -r "$1"
}

broker() {
    if ! missing=$(python3 -c 'import broker; broker.find_server()' 2>&1); then
        say 'no RabbitMQ server is installed here'
        apt_install rabbitmq-server || { echo "$missing" | sed -n '/not found/,$p' >&2; exit 3; }
    fi
}

"$@"
