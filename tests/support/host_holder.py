"""Hold the namespaces of a host until stdin ends.

    unshare --net --uts --time --fork python host_holder.py NAME PORT DESCRIPTOR

Gives the host its name, and its network a loopback. Sends over the socket with this descriptor
the id of this process, and a socket that listens at a port of that loopback.
"""

import fcntl
import os
import socket
import struct
import sys

GET_FLAGS, SET_FLAGS = 0x8913, 0x8914  # SIOCGIFFLAGS, SIOCSIFFLAGS of Linux
IS_UP = 1
REQUEST = struct.Struct('16sH14x')


def turn_on_loopback():
    with socket.socket() as any_socket:
        asked = fcntl.ioctl(any_socket, GET_FLAGS, REQUEST.pack(b'lo', 0))
        _, flags = REQUEST.unpack(asked)
        fcntl.ioctl(any_socket, SET_FLAGS, REQUEST.pack(b'lo', flags | IS_UP))


def main():
    name, port, descriptor = sys.argv[1:]
    socket.sethostname(name)
    turn_on_loopback()
    listener = socket.create_server(('127.0.0.1', int(port)))
    with socket.socket(fileno=int(descriptor)) as test:
        socket.send_fds(test, [b'%d' % os.getpid()], [listener.fileno()])
    sys.stdin.read()


if __name__ == '__main__':
    main()
