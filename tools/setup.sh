#!/bin/sh
# Prepare a fresh machine, saying what it does before it does it.
#
#   ./tools/setup.sh venv requirements.txt   a virtual environment .venv with these requirements
#   ./tools/setup.sh broker                  a RabbitMQ for broker.py to start, if there is none
#   ./tools/setup.sh browser                 a Chromium for the tests of dashboard.py, if there is none
#   ./tools/setup.sh saml                    xmlsec1, with which pysaml2 signs: the identity provider of the tests
#   ./tools/setup.sh strangers               amqp-publish and amqp-get of rabbitmq-c: a foreign client for the tests
#   ./tools/setup.sh pdf                     that, and what tools/pdf.py draws and prints with: fonts, and mermaid in docs/.mermaid
#   ./tools/setup.sh rabbitmq4               a second one in .rabbitmq4: RabbitMQ 4.x of Debian 13; RABBITMQ_HOME=.rabbitmq4
#   ./tools/setup.sh rabbitmq43              a third one in .rabbitmq43, of Debian sid: the newest there is, not pinned
#   ./tools/setup.sh rabbitmq38              the oldest one in .rabbitmq38, of Debian 11
#   ./tools/setup.sh python .rabbitmq43      a virtual environment there, of the Python of that Debian; so in .rabbitmq38
#   ./tools/setup.sh qpid                    a broker that is no RabbitMQ in .qpid: Apache Qpid Broker-J; broker.py --product qpid
#   ./tools/setup.sh peers                   what bench/perf_peers.py measures beside us, in bench/.peers
#
# A proxy for pip and apt-get is taken from http_proxy and https_proxy. A step that fails shows its last lines and the
# remedy, and ends with status 3.
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }

# end REMEDY
end() { say "$*"; exit 3; }

# quietly COMMAND...: run a command; if it fails, show its last lines, without passwords of URLs.
quietly() {
    output=$("$@" 2>&1) && return
    say 'that failed:'
    echo "$output" | tail -5 | sed 's|//[^/@ ]*@|//***@|g; s/^/    /' >&2
    return 1
}

# apt_install PACKAGE ...: as root, if we are or can become root.
apt_install() {
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then root=''
    elif command -v sudo >/dev/null; then root=sudo
    else return 1
    fi
    say "installing $*: ${root:+$root }apt-get install $*"
    # Debian would start RabbitMQ as a service that is open to the network. Its way to say no is policy-rc.d.
    quietly $root sh -ec '
        policy=/usr/sbin/policy-rc.d
        [ -e $policy ] || { trap "rm -f $policy" EXIT; printf "#!/bin/sh\nexit 101\n" >$policy; chmod +x $policy; }
        apt-get update -qq || : # the lists that are there may do
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
        if [ "$1" = rabbitmq-server ] && [ -d /run/systemd/system ]; then systemctl disable -q rabbitmq-server; fi
    ' sh "$@" && return
    case $output in *'is expired'*)
        say 'the mirror is behind, or the clock is wrong: see date; to take its lists as they are, as root:'
        say 'apt-get -o Acquire::Check-Valid-Until=false update; then again'
    esac
    return 1
}

venv() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || end 'Python 3.9 or later is needed'
    if [ ! -x .venv/bin/pip ]; then
        say 'creating the virtual environment .venv'
        if ! python3 -m venv .venv >/dev/null 2>&1; then
            say 'that failed; Debian and Ubuntu keep the module venv in the package python3-venv'
            apt_install python3-venv || true
            quietly python3 -m venv .venv ||
                { rm -rf .venv; end 'as root: apt-get install python3-venv, then again; or is the disk full?'; }
        fi
    fi
    say "installing $1 into .venv"
    quietly .venv/bin/python -m pip install -q --disable-pip-version-check -r "$1" ||
        end 'is the package index reachable? see https_proxy, PIP_INDEX_URL, and PIP_CERT for another certificate; then again'
}

broker() {
    if ! missing=$(python3 -c 'from siamese.testbed import rabbitmq; rabbitmq.find_server()' 2>&1); then
        say 'no RabbitMQ server is installed here'
        apt_install rabbitmq-server || { echo "$missing" | sed -n '/not found/,$p' >&2; exit 3; }
    fi
}

browser() {
    for name in chromium chromium-browser google-chrome; do
        command -v $name >/dev/null && return
    done
    say 'no Chromium is installed here'
    apt_install chromium || end 'install Chromium or Chrome (as root: apt-get install chromium), then again'
}

saml() {
    command -v xmlsec1 >/dev/null && return
    say 'no xmlsec1 is installed here'
    apt_install xmlsec1 || end 'install xmlsec1 (as root: apt-get install xmlsec1), then again'
}

strangers() {
    command -v amqp-publish >/dev/null && return
    say 'no amqp-publish is installed here'
    apt_install amqp-tools || end 'install the tools of rabbitmq-c (as root: apt-get install amqp-tools), then again'
}

pdf() {
    browser
    # The documents quote Arabic, Chinese and Japanese, and characters beyond 16 bits.
    for character in 0645 503c 30fc 1d11e 20bb7 1f407; do
        [ -n "$(fc-list ":charset=$character")" ] || { apt_install fonts-dejavu-core fonts-noto-cjk fonts-symbola && break; } ||
            end "no font has the character U+$character; see DejaVu, Noto Sans CJK, Symbola"
    done
    fetched docs/.mermaid @mermaid-js/tiny@12
}

# fetched FOLDER PACKAGE: an npm package, in a folder of its own.
fetched() {
    [ -d "$1/node_modules" ] && return
    command -v npm >/dev/null || apt_install npm || end "npm is needed, to fetch $2"
    say "fetching $2 into $1: npm install $2"
    quietly npm install --loglevel=error --no-save --prefix "$1" "$2" || {
        rm -rf "$1"
        end 'is the npm registry reachable? see https_proxy, and NODE_EXTRA_CA_CERTS for another certificate; then again'
    }
}

rabbitmq4() { unpacked_rabbitmq .rabbitmq4 trixie 'RabbitMQ 4.x of Debian 13'; }

rabbitmq43() { unpacked_rabbitmq .rabbitmq43 sid 'RabbitMQ 4.3 or later of Debian sid' ,python3-venv,git; }

rabbitmq38() { unpacked_rabbitmq .rabbitmq38 bullseye 'RabbitMQ 3.8 of Debian 11' ,python3-venv,git; }

# python HOME: what the tests need, beside the Python that was unpacked there; then: HOME/sbin/env HOME/venv/bin/python
python() {
    [ -x "$1/venv/bin/pip" ] || quietly "$1/sbin/env" /usr/bin/python3 -m venv "$1/venv" || end "no Python in $1"
    say "installing requirements/dev.txt into $1/venv: $("$1/sbin/env" "$1/venv/bin/python" --version)"
    quietly "$1/sbin/env" "$1/venv/bin/python" -m pip install -q --disable-pip-version-check -r requirements/dev.txt ||
        end 'is the package index reachable? see https_proxy, PIP_INDEX_URL, and PIP_CERT for another certificate; then again'
}

# unpacked_rabbitmq HOME SUITE NAME [,PACKAGE...]: the RabbitMQ of another Debian, with its Erlang, and other packages.
# They need the C library of that Debian. So they are only unpacked, and each of the programs, env among them, sees their /usr
# in place of ours: in a mount namespace, which nobody else sees and which ends with the program. No root is needed.
unpacked_rabbitmq() {
    home=$1 PATH=$PATH:/usr/sbin
    if [ ! -e $home/sbin/env ]; then
        command -v debootstrap >/dev/null || apt_install debootstrap ||
            end "without $3: it needs debootstrap, of Debian or Ubuntu"
        say "fetching $3 into $home: debootstrap --download-only"
        rm -rf $home && mkdir -p $home/programs
        quietly debootstrap --download-only --variant=minbase --include="rabbitmq-server${4:-}" "$2" "$PWD/$home/debian" ||
            end "without $3: debootstrap could not download it; see http_proxy"
        for package in $home/debian/var/cache/apt/archives/*.deb; do
            quietly dpkg-deb -x "$package" $home/debian || end "without $3: is the disk full?"
        done
        rm -rf $home/debian/var
        for folder in bin sbin lib lib64; do # Debian 11 has them beside /usr, not in it
            [ -L $home/debian/$folder ] || cp -al $home/debian/$folder $home/debian/usr || end "without $3: is the disk full?"
        done
        ln -sf mawk $home/debian/usr/bin/awk # which its installation would do
        for program in rabbitmq-server rabbitmqctl epmd env; do
            cat >$home/programs/$program <<'END'
#!/bin/sh
home=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] && user='' || user=--map-root-user
exec unshare $user --mount sh -c 'mount --bind "$0" /usr && PATH=/usr/lib/rabbitmq/bin:$PATH && exec "$@"' \
    "$home/debian/usr" "${0##*/}" "$@"
END
            chmod +x $home/programs/$program
        done
        mv $home/programs $home/sbin # last, so what is there is complete
    fi
    version=$(timeout 60 $home/sbin/rabbitmqctl version </dev/null) ||
        end "without $3: this machine allows no mount namespace (unshare --mount)"
    say "RabbitMQ $version is in $home"
}

qpid() {
    home=.qpid
    if [ ! -e $home/lib ]; then
        command -v mvn >/dev/null || apt_install maven default-jre-headless || end 'without Qpid: it needs Java and Maven'
        say "fetching Apache Qpid Broker-J into $home: mvn dependency:copy-dependencies"
        rm -rf $home
        quietly mvn -q -B -Dstyle.color=never -f tools/qpid.xml dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$PWD/$home/part" || end 'without Qpid: is Maven Central reachable? see MAVEN_ARGS, ~/.m2/settings.xml'
        mv $home/part $home/lib # last, so what is there is complete
    fi
    problem=$(./broker.py --product qpid true 2>&1) || { echo "$problem" | tail -6 >&2; end 'without Qpid: it does not start'; }
    say "Qpid is in $home"
}

peers() {
    here=bench/.peers
    mkdir -p $here
    say "installing requirements/peers.txt into $here/venv"
    { [ -x $here/venv/bin/pip ] || quietly python3 -m venv $here/venv; } &&
        quietly $here/venv/bin/python -m pip install -q --disable-pip-version-check -r requirements/peers.txt ||
        say 'without py-amqp and aio-pika: pip could not install them'
    if [ ! -d $here/node_modules/amqplib ]; then
        command -v npm >/dev/null || apt_install npm || true
        say "fetching amqplib into $here: npm install amqplib"
        quietly npm install --loglevel=error --no-save --prefix $here amqplib || say 'without amqplib: it needs node and npm'
    fi
    for peer in rabbitmq_c rabbitmq_c_tuned; do
        build="cc -O2 -o $here/$peer bench/peers/$peer.c -lrabbitmq"
        say "compiling the peer $peer: $build"
        $build 2>/dev/null || { apt_install gcc libc6-dev librabbitmq-dev && quietly $build; } ||
            say "without $peer: it needs a C compiler and librabbitmq"
    done
    if [ ! -d $here/java ]; then
        command -v mvn >/dev/null || apt_install maven || true
        say "fetching PerfTest into $here/java: mvn dependency:copy-dependencies"
        quietly mvn -q -B -Dstyle.color=never -f bench/peers/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/$here/java" ||
            { rm -rf $here/java; say 'without PerfTest: it needs Java and Maven'; }
    fi
}

"$@"
